//! Anchor's IDL, both forms: the older has no discriminators (they are hashes of the names) and writes names in camel case.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Form, Idl, Key, Type, kept, program_key, scalar, snake};

pub fn parse(json: &Value) -> Result<(Key, Idl), String> {
    let address = json["address"].as_str();
    let address = address.or(json["metadata"]["address"].as_str());
    let program = program_key(address, "address (or metadata.address)")?;
    let instructions = json["instructions"]
        .as_array()
        .ok_or("field instructions is missing")?;
    let types = json["types"].as_array().map_or(&[][..], Vec::as_slice);
    let types = types.iter().filter_map(|named| {
        let name = named["name"].as_str()?.to_owned();
        Some((name, defined(&named["type"])?))
    });
    let types = types.collect();
    let forms = instructions.iter().enumerate().map(|(nth, instruction)| {
        let name = instruction["name"]
            .as_str()
            .ok_or_else(|| format!("field instructions[{nth}].name is missing"))?;
        let name = snake(name);
        Ok(Form {
            begins: match &instruction["discriminator"] {
                Value::Null => hash(&name),
                listed => bytes(listed).ok_or_else(|| {
                    format!("field instructions[{nth}].discriminator is no list of bytes")
                })?,
            },
            arguments: fields(&instruction["args"]),
            name: kept(&name),
        })
    });
    Ok((
        program,
        Idl {
            instructions: forms.collect::<Result<_, String>>()?,
            types,
            ..Idl::default()
        },
    ))
}

fn hash(name: &str) -> Vec<u8> {
    Sha256::digest(format!("global:{name}"))[..8].to_vec()
}

fn bytes(list: &Value) -> Option<Vec<u8>> {
    let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
    list.as_array()?.iter().map(byte).collect()
}

/// Nothing when one of them has a type that is not followed.
fn fields(list: &Value) -> Option<Vec<(String, Type)>> {
    let field = |field: &Value| Some((snake(field["name"].as_str()?), of(&field["type"])?));
    list.as_array()
        .map_or(Some(Vec::new()), |list| list.iter().map(field).collect())
}

/// Fields with names, or without.
fn content(list: &Value) -> Option<Type> {
    let Some(items) = list.as_array() else {
        return Some(Type::Tuple(Vec::new()));
    };
    if items.iter().all(|item| item["name"].is_string()) && !items.is_empty() {
        return fields(list).map(Type::Struct);
    }
    items.iter().map(of).collect::<Option<_>>().map(Type::Tuple)
}

fn defined(json: &Value) -> Option<Type> {
    match json["kind"].as_str()? {
        "struct" => content(&json["fields"]),
        "enum" => {
            let variant = |variant: &Value| {
                Some((
                    variant["name"].as_str()?.to_owned(),
                    content(&variant["fields"])?,
                ))
            };
            let variants = json["variants"].as_array()?.iter().map(variant);
            variants.collect::<Option<_>>().map(Type::Enum)
        }
        "alias" => of(&json["value"]),
        "type" => of(&json["alias"]),
        _ => None,
    }
}

fn of(json: &Value) -> Option<Type> {
    if let Some(name) = json.as_str() {
        return scalar(name);
    }
    let (kind, inner) = json.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "vec" => Type::List(Box::new(of(inner)?)),
        "option" => Type::Option(Box::new(of(inner)?)),
        "array" => {
            let count = usize::try_from(inner[1].as_u64()?).ok()?;
            Type::Array(Box::new(of(&inner[0])?), count)
        }
        // A generic type has parameters beside its name, and is not followed.
        "defined" => match inner {
            Value::String(name) => Type::Named(name.clone()),
            named if named["generics"].is_null() => Type::Named(named["name"].as_str()?.to_owned()),
            _ => return None,
        },
        _ => return None,
    })
}
