//! Instructions of programs without a reader of ours, through the interface their authors publish: an Anchor or Codama IDL.
//!
//! An IDL names instructions by their first bytes and gives the types of their arguments; an instruction becomes its name and
//! its arguments as JSON. Integers of 64 bits and more are strings, as no reader of JSON may round them; keys are base58;
//! bytes are hexadecimal. An IDL says nothing of what moved: its instructions have no effects.

mod anchor;
mod codama;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Key, Unread, bytes::Reader, key_of_base58};

/// Types within types followed before an instruction is called malformed.
const DEPTH_MAX: u8 = 32;

/// Why a file is no IDL that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("IDL {file}: {problem}. {fix}")]
pub struct IdlError {
    pub file: String,
    pub problem: String,
    pub fix: &'static str,
}

/// The programs of a folder of IDLs.
#[derive(Debug, Default)]
pub struct Idls {
    by_program: HashMap<Key, Idl>,
}

#[derive(Debug, Default)]
struct Idl {
    /// First eight digits of the file's SHA-256: rows say which text they were read by.
    checksum: &'static str,
    instructions: Vec<Form>,
    types: Types,
}

type Types = BTreeMap<String, Type>;

/// One instruction of an IDL.
#[derive(Debug)]
struct Form {
    name: &'static str,
    /// The bytes it begins with.
    begins: Vec<u8>,
    /// What follows those; `None`: an argument has a type that is not followed, so only the name is told.
    arguments: Option<Vec<(String, Type)>>,
}

/// How a value lies in the bytes: borsh, and what Codama adds to it.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    /// Bytes, and whether it is signed.
    Integer(u8, bool),
    Float(u8),
    Bool,
    PublicKey,
    String,
    Bytes,
    Option(Box<Type>),
    /// A length of four bytes, then so many.
    List(Box<Type>),
    Array(Box<Type>, usize),
    Struct(Vec<(String, Type)>),
    Tuple(Vec<Type>),
    /// One byte says which.
    Enum(Vec<(String, Type)>),
    /// A type of the same IDL, by name.
    Named(String),
}

/// An instruction read through an IDL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub name: &'static str,
    /// A JSON object; empty when only the name is known.
    pub arguments: String,
    pub checksum: &'static str,
}

impl Idls {
    /// Takes one file in.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<(), IdlError> {
        let error = |problem: String, fix| IdlError {
            file: file.to_owned(),
            problem,
            fix,
        };
        let json: Value = serde_json::from_slice(bytes).map_err(|problem| {
            error(
                format!("not JSON: {problem}"),
                "Put only IDLs into the folder",
            )
        })?;
        let parsed = if json["kind"] == "rootNode" {
            codama::parse(&json)
        } else {
            anchor::parse(&json)
        };
        let (program, mut idl) = parsed.map_err(|problem| {
            error(
                problem,
                "Take it from the program's authors again, or write the field",
            )
        })?;
        // The longest first: one discriminator may begin another.
        idl.instructions
            .sort_by_key(|form| std::cmp::Reverse(form.begins.len()));
        idl.checksum = kept(&hex::encode(Sha256::digest(bytes))[..8]);
        if self.by_program.insert(program, idl).is_some() {
            return Err(error(
                format!(
                    "program {} has another IDL in the folder",
                    bs58::encode(program).into_string()
                ),
                "Keep one of them",
            ));
        }
        Ok(())
    }

    pub fn programs(&self) -> usize {
        self.by_program.len()
    }

    /// `None`: no IDL for that program.
    pub fn read(&self, program: &Key, data: &[u8]) -> Option<Result<Read, Unread>> {
        Some(self.by_program.get(program)?.read(data))
    }
}

impl Idl {
    fn read(&self, data: &[u8]) -> Result<Read, Unread> {
        let fits = |form: &&Form| data.starts_with(&form.begins);
        let form = self.instructions.iter().find(fits).ok_or(Unread::Unknown)?;
        let mut rest = Reader::new(&data[form.begins.len()..]);
        let arguments = match &form.arguments {
            None => String::new(),
            Some(fields) => self.fields(fields, &mut rest, 0)?.to_string(),
        };
        Ok(Read {
            name: form.name,
            arguments,
            checksum: self.checksum,
        })
    }

    fn fields(
        &self,
        fields: &[(String, Type)],
        data: &mut Reader<'_>,
        depth: u8,
    ) -> Result<Value, Unread> {
        let mut object = Map::new();
        for (name, of) in fields {
            object.insert(name.clone(), self.value(of, data, depth)?);
        }
        Ok(Value::Object(object))
    }

    /// Every value takes a byte or more: a count beyond what is left is damage, not a reason to wait.
    fn several(
        &self,
        of: &Type,
        count: usize,
        data: &mut Reader<'_>,
        depth: u8,
    ) -> Result<Value, Unread> {
        if count > data.rest().len() {
            return Err(Unread::Malformed);
        }
        let values = (0..count).map(|_| self.value(of, data, depth));
        values.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn value(&self, of: &Type, data: &mut Reader<'_>, depth: u8) -> Result<Value, Unread> {
        if depth > DEPTH_MAX {
            return Err(Unread::Malformed);
        }
        let depth = depth + 1;
        match of {
            Type::Array(of, count) => self.several(of, *count, data, depth),
            Type::List(of) => {
                let count = length(data)?;
                self.several(of, count, data, depth)
            }
            Type::Tuple(of) => {
                let values = of.iter().map(|of| self.value(of, data, depth));
                values.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Type::Integer(bytes, signed) => integer(data, *bytes, *signed),
            Type::Float(4) => Ok(Value::from(f64::from(f32::from_le_bytes(data.array()?)))),
            Type::Float(_) => Ok(Value::from(f64::from_le_bytes(data.array()?))),
            Type::Bool => match data.u8()? {
                0 => Ok(Value::Bool(false)),
                1 => Ok(Value::Bool(true)),
                _ => Err(Unread::Malformed),
            },
            Type::PublicKey => Ok(bs58::encode(data.key()?).into_string().into()),
            Type::String => {
                let count = length(data)?;
                let text = std::str::from_utf8(data.take(count)?);
                text.map(Value::from).map_err(|_| Unread::Malformed)
            }
            Type::Bytes => {
                let count = length(data)?;
                Ok(hex::encode(data.take(count)?).into())
            }
            Type::Option(of) => match data.u8()? {
                0 => Ok(Value::Null),
                1 => self.value(of, data, depth),
                _ => Err(Unread::Malformed),
            },
            Type::Struct(fields) => self.fields(fields, data, depth),
            Type::Enum(variants) => {
                let (name, content) = variants
                    .get(usize::from(data.u8()?))
                    .ok_or(Unread::Malformed)?;
                if *content == Type::Tuple(Vec::new()) {
                    return Ok(name.as_str().into());
                }
                let content = self.value(content, data, depth)?;
                Ok(Value::Object(Map::from_iter([(name.clone(), content)])))
            }
            Type::Named(name) => {
                let of = self.types.get(name).ok_or(Unread::Malformed)?;
                self.value(of, data, depth)
            }
        }
    }
}

fn length(data: &mut Reader<'_>) -> Result<usize, Unread> {
    usize::try_from(data.u32()?).map_err(|_| Unread::Malformed)
}

fn integer(data: &mut Reader<'_>, bytes: u8, signed: bool) -> Result<Value, Unread> {
    let taken = data.take(usize::from(bytes))?;
    let negative = signed && taken.last().is_some_and(|high| high & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..taken.len()].copy_from_slice(taken);
    let text = if signed {
        i128::from_le_bytes(wide).to_string()
    } else {
        u128::from_le_bytes(wide).to_string()
    };
    if bytes < 8 {
        return Ok(text.parse::<i64>().map_or(Value::Null, Value::from));
    }
    Ok(text.into())
}

/// Names live as long as the process: they come from a folder that is read once.
fn kept(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// `swapBaseInput` as `swap_base_input`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (place, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn program_key(text: Option<&str>, field: &str) -> Result<Key, String> {
    let text = text.ok_or_else(|| format!("field {field} is missing"))?;
    key_of_base58(text).ok_or_else(|| format!("field {field} is {text:?}, not a public key"))
}

fn scalar(name: &str) -> Option<Type> {
    let (kind, bits) = name.split_at_checked(1)?;
    if let Ok(bits) = bits.parse::<u8>()
        && [8, 16, 32, 64, 128].contains(&bits)
    {
        match kind {
            "u" => return Some(Type::Integer(bits / 8, false)),
            "i" => return Some(Type::Integer(bits / 8, true)),
            "f" if bits == 32 || bits == 64 => return Some(Type::Float(bits / 8)),
            _ => {}
        }
    }
    Some(match name {
        "bool" => Type::Bool,
        "publicKey" | "pubkey" => Type::PublicKey,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
