//! Codama's IDL: a tree of nodes. An instruction's discriminator is an argument with a fixed value, at the front.

use serde_json::Value;

use super::{Form, Idl, Key, Type, kept, program_key, scalar, snake};

pub fn parse(json: &Value) -> Result<(Key, Idl), String> {
    let program = &json["program"];
    let key = program_key(program["publicKey"].as_str(), "program.publicKey")?;
    let instructions = program["instructions"]
        .as_array()
        .ok_or("field program.instructions is missing")?;
    let types = program["definedTypes"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let types = types.iter().filter_map(|named| {
        let name = named["name"].as_str()?.to_owned();
        Some((name, of(&named["type"])?))
    });
    let types = types.collect();
    let forms = instructions.iter().enumerate().map(|(nth, instruction)| {
        form(instruction).ok_or_else(|| {
            format!("field program.instructions[{nth}] has no name, or no discriminator of a fixed value at its front")
        })
    });
    Ok((
        key,
        Idl {
            instructions: forms.collect::<Result<_, String>>()?,
            types,
            ..Idl::default()
        },
    ))
}

fn form(instruction: &Value) -> Option<Form> {
    let arguments = instruction["arguments"].as_array()?;
    let named = |node: &Value| node["kind"] == "fieldDiscriminatorNode" && node["offset"] == 0;
    let discriminator = instruction["discriminators"]
        .as_array()?
        .iter()
        .find(|node| named(node))?;
    let (first, rest) = arguments.split_first()?;
    if first["name"] != discriminator["name"] {
        return None;
    }
    let field =
        |argument: &Value| Some((snake(argument["name"].as_str()?), of(&argument["type"])?));
    Some(Form {
        name: kept(&snake(instruction["name"].as_str()?)),
        begins: fixed(&first["type"], &first["defaultValue"])?,
        arguments: rest.iter().map(field).collect(),
    })
}

/// The bytes of a fixed value.
fn fixed(of_type: &Value, value: &Value) -> Option<Vec<u8>> {
    match value["kind"].as_str()? {
        "numberValueNode" => {
            let Type::Integer(bytes, _) = of(of_type)? else {
                return None;
            };
            let number = value["number"].as_u64()?.to_le_bytes();
            number.get(..usize::from(bytes)).map(<[u8]>::to_vec)
        }
        "bytesValueNode" => {
            let data = value["data"].as_str()?;
            match value["encoding"].as_str()? {
                "base16" => hex::decode(data).ok(),
                "base58" => bs58::decode(data).into_vec().ok(),
                _ => None,
            }
        }
        _ => None,
    }
}

fn of(node: &Value) -> Option<Type> {
    // Lengths and markers of the sizes borsh has; others are not followed.
    let marked =
        |field: &str, wanted: &str| node[field].is_null() || node[field]["format"] == wanted;
    Some(match node["kind"].as_str()? {
        "numberTypeNode" if node["endian"] != "be" => scalar(node["format"].as_str()?)?,
        "booleanTypeNode" => Type::Bool,
        "publicKeyTypeNode" => Type::PublicKey,
        "sizePrefixTypeNode" if marked("prefix", "u32") => match node["type"]["kind"].as_str()? {
            "stringTypeNode" => Type::String,
            "bytesTypeNode" => Type::Bytes,
            _ => return None,
        },
        "fixedSizeTypeNode" if node["type"]["kind"] == "bytesTypeNode" => {
            let count = usize::try_from(node["size"].as_u64()?).ok()?;
            Type::Array(Box::new(Type::Integer(1, false)), count)
        }
        "optionTypeNode" if marked("prefix", "u8") => Type::Option(Box::new(of(&node["item"])?)),
        "arrayTypeNode" => {
            let (count, item) = (&node["count"], Box::new(of(&node["item"])?));
            match count["kind"].as_str()? {
                "fixedCountNode" => {
                    Type::Array(item, usize::try_from(count["value"].as_u64()?).ok()?)
                }
                "prefixedCountNode" if count["prefix"]["format"] == "u32" => Type::List(item),
                _ => return None,
            }
        }
        "structTypeNode" => {
            let field = |field: &Value| Some((snake(field["name"].as_str()?), of(&field["type"])?));
            let fields = node["fields"].as_array()?.iter().map(field);
            Type::Struct(fields.collect::<Option<_>>()?)
        }
        "tupleTypeNode" => {
            let items = node["items"].as_array()?.iter().map(of);
            Type::Tuple(items.collect::<Option<_>>()?)
        }
        "enumTypeNode" if marked("size", "u8") => {
            let variant = |variant: &Value| {
                let content = match variant["kind"].as_str()? {
                    "enumEmptyVariantTypeNode" => Type::Tuple(Vec::new()),
                    "enumStructVariantTypeNode" => of(&variant["struct"])?,
                    "enumTupleVariantTypeNode" => of(&variant["tuple"])?,
                    _ => return None,
                };
                Some((variant["name"].as_str()?.to_owned(), content))
            };
            let variants = node["variants"].as_array()?.iter().map(variant);
            Type::Enum(variants.collect::<Option<_>>()?)
        }
        "definedTypeLinkNode" => Type::Named(node["name"].as_str()?.to_owned()),
        _ => return None,
    })
}
