//! Passkey ceremonies: the one door to webauthn-rs.
//!
//! The library (pinned, `docs` in the workspace manifest) verifies signatures, challenge, rpIdHash, user presence, user
//! verification, backup flags and counters. It does not check `crossOrigin` on assertions, `topOrigin`, the user handle,
//! lengths, or that `id` and `rawId` agree: that is done here, before it is asked. Uniqueness of credential ids, expiry,
//! single use and the binding to a browser or session belong to the rows that [`crate::accounts`] and [`crate::approvals`]
//! keep.
//!
//! The library draws its own challenges and has no call to set one. Its authentication state is made for storage, so a state
//! with our challenge is read from JSON: [`assertion_state`]. A test pins that this works and that the challenge counts.

use crate::client_data::{self, ClientDataError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;
use webauthn_rs_core::WebauthnCore;
use webauthn_rs_core::error::WebauthnError;
use webauthn_rs_core::proto::{
    AllowCredentials, AttestationConveyancePreference, AuthenticationState,
    CreationChallengeResponse, CredProtect, Credential, CredentialProtectionPolicy,
    PublicKeyCredential, PublicKeyCredentialRequestOptions, RegisterPublicKeyCredential,
    RegistrationState, RequestRegistrationExtensions, UserVerificationPolicy,
};

/// The longest credential id that WebAuthn Level 3 allows, in bytes.
const CREDENTIAL_ID_BYTES_MAX: usize = 1023;
/// Real attestation objects are below 8 KiB; certificate chains make the longest.
const ATTESTATION_BYTES_MAX: usize = 64 * 1024;
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 4096;
/// rpIdHash, flags, counter: all there is without attested data and extensions.
const AUTHENTICATOR_DATA_BYTES_PLAIN: usize = 37;
const SIGNATURE_BYTES_MAX: usize = 1024;

mod flag {
    pub const USER_PRESENT: u8 = 1 << 0;
    pub const USER_VERIFIED: u8 = 1 << 2;
    pub const ATTESTED_DATA: u8 = 1 << 6;
    pub const EXTENSIONS: u8 = 1 << 7;
}

#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    #[error(transparent)]
    ClientData(#[from] ClientDataError),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the passkey did not verify the user (PIN, fingerprint or face)")]
    UserNotVerified,
    #[error("the answer is for another challenge")]
    OtherChallenge,
    #[error("the passkey belongs to another account")]
    OtherUser,
    #[error("the signature does not verify")]
    BadSignature,
    #[error("the passkey's counter went back: there may be a second copy of it")]
    Cloned,
    #[error("{0}")]
    Refused(WebauthnError),
}

impl PasskeyError {
    /// Stable name for refusals, metrics and audit.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClientData(ClientDataError::WrongOrigin(_)) => "passkey_wrong_origin",
            Self::ClientData(ClientDataError::CrossOrigin) => "passkey_cross_origin",
            Self::ClientData(ClientDataError::WrongType(_)) => "passkey_wrong_ceremony",
            Self::ClientData(_) | Self::Malformed(_) => "passkey_malformed",
            Self::UserNotVerified => "passkey_user_not_verified",
            Self::OtherChallenge => "passkey_other_challenge",
            Self::OtherUser => "passkey_other_user",
            Self::BadSignature => "passkey_bad_signature",
            Self::Cloned => "passkey_cloned",
            Self::Refused(_) => "passkey_refused",
        }
    }
}

impl From<WebauthnError> for PasskeyError {
    fn from(error: WebauthnError) -> Self {
        match error {
            WebauthnError::UserNotVerified | WebauthnError::UserNotPresent => Self::UserNotVerified,
            WebauthnError::MismatchedChallenge => Self::OtherChallenge,
            WebauthnError::AuthenticationFailure | WebauthnError::SignatureInvalid => {
                Self::BadSignature
            }
            WebauthnError::CredentialPossibleCompromise => Self::Cloned,
            other => Self::Refused(other),
        }
    }
}

/// Who an assertion's user handle must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserHandle {
    /// The passkey was found without knowing the user: the handle must be there and name its owner.
    Required,
    /// The user was known before: a handle, if there is one, must name them.
    IfPresent,
}

/// A registration in progress: what the browser gets, and what the server keeps.
pub struct Registration {
    pub options: CreationChallengeResponse,
    pub state: Value,
}

pub struct Passkeys {
    core: WebauthnCore,
    origin: String,
    rp_id: String,
    timeout_ms: u32,
}

impl Passkeys {
    /// `origin` in its ASCII serialisation without a path, such as `https://pay.example`.
    pub fn new(origin: &str, rp_id: &str, timeout: Duration) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(origin)?;
        let core = WebauthnCore::new_unsafe_experts_only(
            "Heliograph",
            rp_id,
            vec![url],
            timeout,
            Some(false),
            Some(false),
        );
        Ok(Self {
            core,
            origin: origin.to_owned(),
            rp_id: rp_id.to_owned(),
            timeout_ms: u32::try_from(timeout.as_millis())?,
        })
    }

    /// Asks for a discoverable passkey with user verification. No attestation: any authenticator will do.
    pub fn begin_registration(&self, user: Uuid, name: &str) -> Result<Registration, PasskeyError> {
        let extensions = RequestRegistrationExtensions {
            // The authenticator itself then refuses to be used without its user; not all can, so it is not enforced.
            cred_protect: Some(CredProtect {
                credential_protection_policy: CredentialProtectionPolicy::UserVerificationRequired,
                enforce_credential_protection_policy: Some(false),
            }),
            uvm: None,
            cred_props: Some(true),
            min_pin_length: None,
            hmac_create_secret: None,
        };
        let builder = self
            .core
            .new_challenge_register_builder(user.as_bytes(), name, name)?
            .attestation(AttestationConveyancePreference::None)
            .require_resident_key(true)
            .user_verification_policy(UserVerificationPolicy::Required)
            .extensions(Some(extensions));
        let (options, state) = self.core.generate_challenge_register(builder)?;
        let state = serde_json::to_value(state)
            .map_err(|_| PasskeyError::Malformed("the state cannot be stored"))?;
        Ok(Registration { options, state })
    }

    pub fn finish_registration(
        &self,
        answer: &RegisterPublicKeyCredential,
        state: Value,
    ) -> Result<Credential, PasskeyError> {
        check_identity(&answer.type_, &answer.id, &answer.raw_id)?;
        if answer.response.attestation_object.len() > ATTESTATION_BYTES_MAX {
            return Err(PasskeyError::Malformed(
                "the attestation object is too long",
            ));
        }
        client_data::check(
            &answer.response.client_data_json,
            "webauthn.create",
            &self.origin,
        )?;
        let state: RegistrationState = serde_json::from_value(state).map_err(|_| {
            PasskeyError::Malformed("the stored registration cannot be read; start again")
        })?;
        let credential = self.core.register_credential(answer, &state, None)?;
        if credential.cred_id != answer.raw_id {
            return Err(PasskeyError::Malformed(
                "the credential id differs from the attested one",
            ));
        }
        if !credential.user_verified {
            return Err(PasskeyError::UserNotVerified);
        }
        Ok(credential)
    }

    /// Options for `navigator.credentials.get`. With no credentials, the browser offers every passkey for this site.
    pub fn request_options(
        &self,
        challenge: [u8; 32],
        credentials: &[Credential],
    ) -> PublicKeyCredentialRequestOptions {
        let allow = |credential: &Credential| AllowCredentials {
            type_: "public-key".into(),
            id: credential.cred_id.clone(),
            transports: credential.transports.clone(),
        };
        PublicKeyCredentialRequestOptions {
            challenge: challenge.to_vec(),
            timeout: Some(self.timeout_ms),
            rp_id: self.rp_id.clone(),
            allow_credentials: credentials.iter().map(allow).collect(),
            user_verification: UserVerificationPolicy::Required,
            hints: None,
            extensions: None,
        }
    }

    /// Verifies an assertion over `challenge` by `credential`, which belongs to `owner`. Returns the credential with its new
    /// counter and backup state, to be stored.
    pub fn verify(
        &self,
        answer: &PublicKeyCredential,
        challenge: [u8; 32],
        credential: &Credential,
        owner: Uuid,
        handle: UserHandle,
    ) -> Result<Credential, PasskeyError> {
        check_identity(&answer.type_, &answer.id, &answer.raw_id)?;
        check_authenticator_data(&answer.response.authenticator_data)?;
        if answer.response.signature.len() > SIGNATURE_BYTES_MAX {
            return Err(PasskeyError::Malformed("the signature is too long"));
        }
        if answer.extensions.appid == Some(true) {
            return Err(PasskeyError::Malformed(
                "the appid extension was not asked for",
            ));
        }
        client_data::check(
            &answer.response.client_data_json,
            "webauthn.get",
            &self.origin,
        )?;
        match (answer.get_user_unique_id(), handle) {
            (Some(id), _) if id != owner.as_bytes() => return Err(PasskeyError::OtherUser),
            (None, UserHandle::Required) => {
                return Err(PasskeyError::Malformed(
                    "the passkey did not say whose it is",
                ));
            }
            _ => {}
        }
        let state = assertion_state(challenge)?;
        let result = self
            .core
            .authenticate_single_credential(answer, &state, credential)?;
        if !result.user_verified() {
            return Err(PasskeyError::UserNotVerified);
        }
        let mut updated = credential.clone();
        updated.counter = result.counter();
        updated.backup_state = result.backup_state();
        Ok(updated)
    }
}

/// An authentication state of the library with a challenge of our own.
fn assertion_state(challenge: [u8; 32]) -> Result<AuthenticationState, PasskeyError> {
    serde_json::from_value(json!({
        "credentials": [],
        "policy": UserVerificationPolicy::Required,
        "challenge": URL_SAFE_NO_PAD.encode(challenge),
        "appid": null,
        "allow_backup_eligible_upgrade": false,
    }))
    .map_err(|_| {
        PasskeyError::Malformed("the verifier's state has another shape than the pinned release")
    })
}

fn check_identity(kind: &str, id: &str, raw_id: &[u8]) -> Result<(), PasskeyError> {
    if kind != "public-key" {
        return Err(PasskeyError::Malformed(
            "the credential's type is not public-key",
        ));
    }
    if raw_id.is_empty() || raw_id.len() > CREDENTIAL_ID_BYTES_MAX {
        return Err(PasskeyError::Malformed(
            "the credential id is not 1 to 1023 bytes long",
        ));
    }
    if id != URL_SAFE_NO_PAD.encode(raw_id) {
        return Err(PasskeyError::Malformed("id and rawId differ"));
    }
    Ok(())
}

fn check_authenticator_data(data: &[u8]) -> Result<(), PasskeyError> {
    if data.len() < AUTHENTICATOR_DATA_BYTES_PLAIN || data.len() > AUTHENTICATOR_DATA_BYTES_MAX {
        return Err(PasskeyError::Malformed(
            "the authenticator data has an impossible length",
        ));
    }
    let flags = data[32];
    if flags & flag::ATTESTED_DATA != 0 {
        return Err(PasskeyError::Malformed(
            "an assertion carries no attested data",
        ));
    }
    if flags & flag::EXTENSIONS == 0 && data.len() != AUTHENTICATOR_DATA_BYTES_PLAIN {
        return Err(PasskeyError::Malformed(
            "the authenticator data has trailing bytes",
        ));
    }
    if flags & (flag::USER_PRESENT | flag::USER_VERIFIED)
        != flag::USER_PRESENT | flag::USER_VERIFIED
    {
        return Err(PasskeyError::UserNotVerified);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_with_our_challenge_can_be_made() {
        let state = assertion_state([7; 32]).unwrap();
        let stored = serde_json::to_value(state).unwrap();
        assert_eq!(stored["challenge"], URL_SAFE_NO_PAD.encode([7; 32]));
        assert_eq!(stored["policy"], "required");
    }

    #[test]
    fn registration_asks_for_a_discoverable_verified_passkey() {
        let passkeys = Passkeys::new(
            "http://localhost:8940",
            "localhost",
            Duration::from_secs(60),
        )
        .unwrap();
        let registration = passkeys
            .begin_registration(Uuid::from_u128(1), "ann")
            .unwrap();
        let options = serde_json::to_value(&registration.options.public_key).unwrap();
        let selection = &options["authenticatorSelection"];
        assert_eq!(selection["residentKey"], "required");
        assert_eq!(selection["requireResidentKey"], true);
        assert_eq!(selection["userVerification"], "required");
        assert_eq!(options["rp"]["id"], "localhost");
    }

    #[test]
    fn identity_is_one_id_within_its_limits() {
        let id = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        assert!(check_identity("public-key", &id(&[1; 1023]), &[1; 1023]).is_ok());
        assert!(check_identity("public-key", &id(&[1; 1024]), &[1; 1024]).is_err());
        assert!(check_identity("public-key", "", &[]).is_err());
        assert!(check_identity("public-key", &id(&[2]), &[1]).is_err());
        assert!(check_identity("password", &id(&[1]), &[1]).is_err());
    }

    #[test]
    fn authenticator_data_shows_presence_and_verification_and_nothing_more() {
        let data = |flags: u8, length: usize| {
            let mut data = vec![0; length];
            data[32] = flags;
            data
        };
        assert!(check_authenticator_data(&data(0b101, 37)).is_ok());
        assert!(
            check_authenticator_data(&data(0b1_1101, 37)).is_ok(),
            "backup flags are the library's"
        );
        for (flags, length) in [
            (0b100, 37),
            (0b001, 37),
            (0b101, 38),
            (0b101, 36),
            (0b0100_0101, 60),
            (0b1000_0101, 5000),
        ] {
            assert!(
                check_authenticator_data(&data(flags, length)).is_err(),
                "{flags:b} {length}"
            );
        }
    }
}
