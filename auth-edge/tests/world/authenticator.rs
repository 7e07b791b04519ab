//! A passkey in software, together with the browser around it: honest by default, and able to lie about every part.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const ORIGIN: &str = "http://localhost:8940";

const USER_PRESENT: u8 = 1;
pub const USER_VERIFIED: u8 = 4;
const ATTESTED_DATA: u8 = 64;

/// What to lie about. `None` means the truth.
#[derive(Clone, Debug, Default)]
pub struct Lie {
    pub kind: Option<&'static str>,
    pub origin: Option<&'static str>,
    pub challenge: Option<Vec<u8>>,
    pub rp_id: Option<&'static str>,
    pub flags: Option<u8>,
    pub counter: Option<u32>,
    pub cross_origin: Option<Value>,
    pub top_origin: Option<&'static str>,
    pub user_handle: Option<Value>,
    pub signature: Option<Vec<u8>>,
    pub id: Option<Vec<u8>>,
    /// Another text for `id` than the one that `rawId` has.
    pub id_text: Option<&'static str>,
    pub trailing_authenticator_data: Vec<u8>,
    /// Replaces the whole client data after signing.
    pub swap_client_data_after_signing: Option<Vec<u8>>,
}

#[derive(Clone)]
pub struct Authenticator {
    key: SigningKey,
    pub id: Vec<u8>,
    pub user_handle: Vec<u8>,
    pub counter: u32,
}

pub fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn bytes(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD
        .decode(value.as_str().expect("base64url text"))
        .expect("base64url")
}

impl Authenticator {
    pub fn new() -> Self {
        let secret: [u8; 32] = auth_edge::accounts::draw().unwrap();
        let id: [u8; 32] = auth_edge::accounts::draw().unwrap();
        Self {
            key: SigningKey::from_slice(&secret).unwrap(),
            id: id.to_vec(),
            user_handle: Vec::new(),
            counter: 0,
        }
    }

    /// Answers `navigator.credentials.create`.
    pub fn create(&mut self, options: &Value, lie: &Lie) -> Value {
        self.user_handle = bytes(&options["user"]["id"]);
        self.counter += 1;
        if let Some(id) = &lie.id {
            self.id = id.clone();
        }
        let client_data = client_data(options, "webauthn.create", lie);
        let flags = lie.flags.unwrap_or(USER_PRESENT | USER_VERIFIED) | ATTESTED_DATA;
        let mut data = authenticator_data(
            options["rp"]["id"].as_str().unwrap(),
            flags,
            self.counter,
            lie,
        );
        data.extend([0; 16]);
        data.extend((self.id.len() as u16).to_be_bytes());
        data.extend(&self.id);
        let point = self.key.verifying_key().to_sec1_point(false);
        let point = point.as_bytes();
        // COSE key: kty EC2, alg ES256, crv P-256, x, y.
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        data.extend(&lie.trailing_authenticator_data);

        let mut attestation = vec![0xa3, 0x63];
        attestation.extend(b"fmt\x64none\x67attStmt\xa0\x68authData\x59");
        attestation.extend((data.len() as u16).to_be_bytes());
        attestation.extend(&data);
        json!({
            "id": lie.id_text.map_or_else(|| text(&self.id), str::to_owned),
            "rawId": text(&self.id),
            "type": "public-key",
            "response": {"attestationObject": text(&attestation), "clientDataJSON": text(&client_data), "transports": ["internal"]},
        })
    }

    /// Answers `navigator.credentials.get`.
    pub fn get(&mut self, options: &Value, lie: &Lie) -> Value {
        self.counter += 1;
        let client_data = client_data(options, "webauthn.get", lie);
        let flags = lie.flags.unwrap_or(USER_PRESENT | USER_VERIFIED);
        let mut data =
            authenticator_data(options["rpId"].as_str().unwrap(), flags, self.counter, lie);
        data.extend(&lie.trailing_authenticator_data);
        let mut signed = data.clone();
        signed.extend(Sha256::digest(&client_data));
        let signature: DerSignature = self.key.sign(&signed);
        let signature = lie
            .signature
            .clone()
            .unwrap_or_else(|| signature.as_bytes().to_vec());
        let id = lie.id.as_ref().unwrap_or(&self.id);
        json!({
            "id": lie.id_text.map_or_else(|| text(id), str::to_owned),
            "rawId": text(id),
            "type": "public-key",
            "response": {
                "authenticatorData": text(&data),
                "clientDataJSON": text(lie.swap_client_data_after_signing.as_ref().unwrap_or(&client_data)),
                "signature": text(&signature),
                "userHandle": lie.user_handle.clone().unwrap_or_else(|| json!(text(&self.user_handle))),
            },
        })
    }
}

fn authenticator_data(rp_id: &str, flags: u8, counter: u32, lie: &Lie) -> Vec<u8> {
    let mut data = Sha256::digest(lie.rp_id.unwrap_or(rp_id)).to_vec();
    data.push(flags);
    data.extend(lie.counter.unwrap_or(counter).to_be_bytes());
    data
}

fn client_data(options: &Value, kind: &str, lie: &Lie) -> Vec<u8> {
    let challenge = lie.challenge.as_ref().map_or_else(
        || options["challenge"].as_str().unwrap().to_owned(),
        |bytes| text(bytes),
    );
    let mut data = json!({
        "type": lie.kind.unwrap_or(kind),
        "challenge": challenge,
        "origin": lie.origin.unwrap_or(ORIGIN),
        "crossOrigin": lie.cross_origin.clone().unwrap_or(json!(false)),
    });
    if let Some(origin) = lie.top_origin {
        data["topOrigin"] = json!(origin);
    }
    data.to_string().into_bytes()
}
