//! A frame of a WebSocket: whatever text it is, the answer is JSON-RPC, every call that has an id is answered with it, and
//! nothing else is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use stream_router::jsonrpc::Request;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut calls = 0;
    let answer = Request::read(text).answer(|call| {
        calls += 1;
        call.ask.map(|_| json!(7))
    });
    let asked = serde_json::from_str::<Value>(text);
    let Some(answer) = answer else {
        // Only notifications have no answer.
        assert!(asked.is_ok() && calls == 0);
        return;
    };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    match (asked, &answer) {
        (Ok(Value::Array(asked)), Value::Array(answers)) => {
            assert!(!answers.is_empty() && answers.len() <= asked.len());
            answers.iter().for_each(check);
        }
        (Ok(asked), answer) => {
            check(answer);
            if let Some(id) = asked.get("id") {
                assert_eq!(&answer["id"], id);
            }
        }
        (Err(_), answer) => {
            check(answer);
            assert_eq!(answer["error"]["code"], -32700);
        }
    }
});

fn check(answer: &Value) {
    let members = answer.as_object().expect("an object");
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(members.contains_key("id"));
    let error = &answer["error"];
    assert!(answer["result"] == 7 || (error["code"].is_i64() && error["message"].is_string()));
}
