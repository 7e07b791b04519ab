use proptest::prelude::*;
use serde_json::json;

use super::*;

const PROGRAM: &str = "pAMMBay6oceH9fJKBRHGP5D4bD4sWpmSwMn52FMfXEA";

fn loaded(idl: &Value) -> Idls {
    let mut idls = Idls::default();
    idls.add("x.json", idl.to_string().as_bytes()).unwrap();
    idls
}

fn read(idls: &Idls, data: &[u8]) -> Result<Read, Unread> {
    idls.read(&super::super::programs::PUMP_SWAP, data).unwrap()
}

fn anchor() -> Value {
    json!({
        "address": PROGRAM,
        "metadata": {"name": "x"},
        "instructions": [
            {"name": "buy", "discriminator": [102, 6, 61, 18, 1, 218, 235, 234], "args": [
                {"name": "base_amount_out", "type": "u64"},
                {"name": "maxIn", "type": {"option": "i128"}},
                {"name": "mode", "type": {"defined": {"name": "Mode"}}},
                {"name": "steps", "type": {"vec": {"defined": {"name": "Step"}}}},
            ]},
            {"name": "generic", "discriminator": [1], "args": [
                {"name": "list", "type": {"defined": {"name": "List", "generics": [{"kind": "type", "type": "u8"}]}}},
            ]},
        ],
        "types": [
            {"name": "Mode", "type": {"kind": "enum", "variants": [{"name": "Fast"}, {"name": "Slow", "fields": ["u16"]}]}},
            {"name": "Step", "type": {"kind": "struct", "fields": [
                {"name": "owner", "type": "pubkey"}, {"name": "name", "type": "string"}, {"name": "raw", "type": {"array": ["u8", 2]}},
            ]}},
        ],
    })
}

#[test]
fn an_anchor_instruction_becomes_its_arguments() {
    let idls = loaded(&anchor());
    let data = [
        &[102, 6, 61, 18, 1, 218, 235, 234][..],
        &u64::MAX.to_le_bytes(),
        &[1],
        &(-5_i128).to_le_bytes(),
        &[1, 7, 0],
        &1_u32.to_le_bytes(),
        &[0; 32],
        &2_u32.to_le_bytes(),
        b"ab",
        &[8, 9],
    ];
    let found = read(&idls, &data.concat()).unwrap();
    assert_eq!(found.name, "buy");
    let arguments: Value = serde_json::from_str(&found.arguments).unwrap();
    assert_eq!(
        arguments,
        json!({
            "base_amount_out": "18446744073709551615",
            "max_in": "-5",
            "mode": {"Slow": [7]},
            "steps": [{"owner": "11111111111111111111111111111111", "name": "ab", "raw": [8, 9]}],
        })
    );
    let cut = &data.concat()[..40];
    assert_eq!(read(&idls, cut), Err(Unread::Malformed));
    assert_eq!(read(&idls, &[9; 8]), Err(Unread::Unknown));
    // A type that is not followed: the name is still told.
    let generic = read(&idls, &[1, 2, 3]).unwrap();
    assert_eq!((generic.name, generic.arguments.as_str()), ("generic", ""));
    assert!(idls.read(&[3; 32], &[]).is_none());
}

/// The recorded instruction of a real program, by the older form: names in camel case, discriminators are their hashes.
#[test]
fn the_older_form_hashes_names_as_the_program_does() {
    let idls = loaded(&json!({
        "version": "0.1.0", "name": "pump_amm", "metadata": {"address": PROGRAM},
        "instructions": [{"name": "buyExactQuoteIn", "accounts": [], "args": [
            {"name": "spendableQuoteIn", "type": "u64"}, {"name": "minBaseAmountOut", "type": "u64"},
        ]}],
    }));
    let recorded = hex::decode("c62e1552b4d9e8709c6d1c0000000000d2b39d0500000000").unwrap();
    let found = read(&idls, &recorded).unwrap();
    assert_eq!(found.name, "buy_exact_quote_in");
    let arguments: Value = serde_json::from_str(&found.arguments).unwrap();
    assert_eq!(
        arguments,
        json!({"spendable_quote_in": "1863068", "min_base_amount_out": "94221266"})
    );
}

#[test]
fn a_codama_instruction_becomes_its_arguments() {
    let idls = loaded(&json!({
        "kind": "rootNode", "standard": "codama",
        "program": {"kind": "programNode", "name": "x", "publicKey": PROGRAM, "definedTypes": [], "instructions": [
            {"kind": "instructionNode", "name": "transferSol",
             "discriminators": [{"kind": "fieldDiscriminatorNode", "name": "discriminator", "offset": 0}],
             "arguments": [
                {"name": "discriminator", "type": {"kind": "numberTypeNode", "format": "u32", "endian": "le"},
                 "defaultValue": {"kind": "numberValueNode", "number": 2}, "defaultValueStrategy": "omitted"},
                {"name": "amount", "type": {"kind": "numberTypeNode", "format": "u64", "endian": "le"}},
                {"name": "note", "type": {"kind": "optionTypeNode", "prefix": {"kind": "numberTypeNode", "format": "u8"},
                    "item": {"kind": "sizePrefixTypeNode", "prefix": {"kind": "numberTypeNode", "format": "u32"}, "type": {"kind": "stringTypeNode", "encoding": "utf8"}}}},
             ]},
        ]},
    }));
    let data = [&2_u32.to_le_bytes()[..], &7_u64.to_le_bytes(), &[0]].concat();
    let found = read(&idls, &data).unwrap();
    assert_eq!(found.name, "transfer_sol");
    let arguments: Value = serde_json::from_str(&found.arguments).unwrap();
    assert_eq!(arguments, json!({"amount": "7", "note": null}));
    let bare = read(&idls, &3_u32.to_le_bytes());
    assert_eq!(bare, Err(Unread::Unknown));
}

#[test]
fn a_bad_file_is_named_with_its_field() {
    let mut idls = Idls::default();
    let told = |result: Result<(), IdlError>| result.unwrap_err().to_string();
    assert!(told(idls.add("a.json", b"{")).contains("IDL a.json: not JSON"));
    assert!(told(idls.add("a.json", b"{}")).contains("field address"));
    let wrong = json!({"address": "x", "instructions": []}).to_string();
    assert!(told(idls.add("a.json", wrong.as_bytes())).contains("\"x\", not a public key"));
    let text = anchor().to_string();
    idls.add("a.json", text.as_bytes()).unwrap();
    assert!(told(idls.add("b.json", text.as_bytes())).contains("another IDL"));
}

/// A type within itself, and counts beyond the data: refused, not followed for ever.
#[test]
fn endless_types_end() {
    let idls = loaded(&json!({
        "address": PROGRAM,
        "instructions": [
            {"name": "a", "discriminator": [1], "args": [{"name": "x", "type": {"defined": "Self"}}]},
            {"name": "b", "discriminator": [2], "args": [{"name": "x", "type": {"vec": {"defined": "Nothing"}}}]},
        ],
        "types": [
            {"name": "Self", "type": {"kind": "struct", "fields": [{"name": "x", "type": {"defined": "Self"}}]}},
            {"name": "Nothing", "type": {"kind": "struct", "fields": []}},
        ],
    }));
    assert_eq!(read(&idls, &[1; 99]), Err(Unread::Malformed));
    assert_eq!(
        read(&idls, &[2, 255, 255, 255, 255]),
        Err(Unread::Malformed)
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(data in prop::collection::vec(any::<u8>(), 0..120)) {
        let idls = loaded(&anchor());
        let begun = [&[102, 6, 61, 18, 1, 218, 235, 234][..], &data].concat();
        let _ = read(&idls, &data);
        let _ = read(&idls, &begun);
        let mut strange = Idls::default();
        let _ = strange.add("x", &data);
    }
}
