use super::*;
use proptest::prelude::*;

fn one(body: &str) -> Request {
    match parse(body.as_bytes()) {
        Body::One(request) => request,
        other => panic!("{other:?}"),
    }
}

fn refused(body: &str) -> RpcError {
    one(body).method.unwrap_err()
}

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)
}

#[test]
fn what_web3_js_sends_is_understood() {
    let request = one(&call(
        "sendTransaction",
        r#"["AbC",{"encoding":"base64","skipPreflight":false,"preflightCommitment":"confirmed","maxRetries":3}]"#,
    ));
    assert_eq!(request.id, Some(json!(7)));
    let expected = Method::SendTransaction {
        transaction: "AbC".into(),
        encoding: Encoding::Base64,
        idempotency_key: None,
    };
    assert_eq!(request.method, Ok(expected));
}

#[test]
fn base58_is_the_default_as_in_solana() {
    let request = one(&call("sendTransaction", r#"["AbC"]"#));
    assert!(matches!(
        request.method,
        Ok(Method::SendTransaction {
            encoding: Encoding::Base58,
            ..
        })
    ));
}

#[test]
fn refusals_have_the_code_and_name_the_thing() {
    let long_key = format!(
        r#"["A",{{"idempotencyKey":"{}"}}]"#,
        "k".repeat(KEY_LENGTH_MAX + 1)
    );
    for (params, code, named) in [
        ("[]", INVALID_PARAMS, "params[0]"),
        ("[5]", INVALID_PARAMS, "params[0]"),
        (r#"["A", 5]"#, INVALID_PARAMS, "params[1]"),
        (r#"["A", {}, 1]"#, INVALID_PARAMS, "params[2]"),
        (
            r#"["A", {"encoding": "json"}]"#,
            INVALID_PARAMS,
            "base58, base64",
        ),
        (r#"["A", {"encodng": "base64"}]"#, INVALID_PARAMS, "encodng"),
        (
            r#"["A", {"idempotencyKey": ""}]"#,
            INVALID_PARAMS,
            "idempotencyKey",
        ),
        (
            r#"["A", {"idempotencyKey": 1}]"#,
            INVALID_PARAMS,
            "idempotencyKey",
        ),
        (long_key.as_str(), INVALID_PARAMS, "idempotencyKey"),
        (r#"{"a": 1}"#, INVALID_PARAMS, "params"),
    ] {
        let error = refused(&call("sendTransaction", params));
        assert_eq!(error.code, code, "{params}");
        assert!(error.message.contains(named), "{params}: {}", error.message);
        assert!(
            error.data["fix"]
                .as_str()
                .is_some_and(|fix| !fix.is_empty())
        );
    }
    let error = refused(&call("getBalance", "[]"));
    assert_eq!(error.code, METHOD_NOT_FOUND);
    assert!(error.message.contains("getBalance") && error.message.contains("sendTransaction"));
}

#[test]
fn envelopes_that_are_none_are_refused() {
    for (body, code) in [
        (r#"{"id":1,"method":"sendTransaction"}"#, INVALID_REQUEST),
        (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, INVALID_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
        (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, INVALID_REQUEST),
        ("5", INVALID_REQUEST),
    ] {
        let request = one(body);
        assert!(request.id.is_some(), "answered: {body}");
        assert_eq!(request.method.unwrap_err().code, code, "{body}");
    }
    assert!(matches!(parse(b"{"), Body::Bad(error) if error.code == PARSE_ERROR));
    assert!(matches!(parse(b"[]"), Body::Bad(error) if error.code == INVALID_REQUEST));
    let many = format!("[{}]", vec!["1"; BATCH_MAX + 1].join(","));
    assert!(matches!(parse(many.as_bytes()), Body::Bad(error) if error.message.contains("101")));
}

#[test]
fn a_batch_keeps_its_order_and_notifications_have_no_id() {
    let body = r#"[{"jsonrpc":"2.0","id":"a","method":"getSendStatus","params":["x"]}, 1, {"jsonrpc":"2.0","method":"getSendStatus","params":["x"]}]"#;
    let Body::Batch(requests) = parse(body.as_bytes()) else {
        panic!("no batch");
    };
    assert_eq!(requests[0].id, Some(json!("a")));
    assert!(requests[1].method.is_err());
    assert_eq!(requests[2].id, None);
}

#[test]
fn a_bad_signature_reads_as_solana_says_it() {
    let refusal = Refusal::Signature {
        index: 0,
        signer: event_schema::Pubkey([1; 32]),
    };
    let error = RpcError::from(refusal);
    assert_eq!(error.code, SIGNATURE_VERIFICATION_FAILURE);
    assert!(
        error
            .message
            .starts_with("Transaction signature verification failure")
    );
    assert!(error.message.contains("sign the message again"));
    let answer = response(&json!(1), Err(error));
    assert_eq!(answer["error"]["code"], -32003);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body);
    }
}
