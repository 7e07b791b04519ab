//! How the sender and a leader know one another over TLS, as validators do it.
//!
//! The client shows a self-signed certificate whose key is its Solana identity: the leader reads the key out of it and
//! gives bandwidth by its stake. The leader's certificate is *not* checked against anything: leaders are named by address
//! in gossip, not by a certificate authority, and the transactions are public and signed. TLS still proves that the
//! leader holds the key it shows. This is what `solana-tls-utils` 4.2.2 does on both ends.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use rustls::{
    ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use solana_keypair::Keypair;

/// Protocol name of a leader's transaction port: `ALPN_TPU_PROTOCOL_ID`, solana-streamer 4.2.2.
pub const ALPN_TPU: &[u8] = b"solana-tpu";

/// DER of PKCS #8 v1 around a 32-byte Ed25519 seed (RFC 8410, section 7).
const PKCS8_ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A certificate for an identity, and its key.
pub struct IdentityCertificate {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

/// Self-signed, for the name `localhost`, like a validator's own.
pub fn certificate_of(identity: &Keypair) -> anyhow::Result<IdentityCertificate> {
    let mut der = PKCS8_ED25519_PREFIX.to_vec();
    der.extend_from_slice(identity.secret_bytes());
    let pkcs8 = PrivatePkcs8KeyDer::from(der);
    let key_pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
        .context("the identity keypair is not an Ed25519 key")?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?
        .self_signed(&key_pair)
        .context("the identity certificate could not be signed")?;
    Ok(IdentityCertificate {
        certificate: certificate.der().clone(),
        key: pkcs8.into(),
    })
}

/// TLS towards leaders.
pub fn client_config(identity: IdentityCertificate) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(crypto());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyLeader(provider)))
        .with_client_auth_cert(vec![identity.certificate], identity.key)?;
    config.alpn_protocols = vec![ALPN_TPU.to_vec()];
    Ok(config)
}

/// Leaders accept X25519 only.
pub fn crypto() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::X25519);
    provider
}

/// A server name for an address: not checked by anyone, but different per leader so that QUIC tokens are not mixed up.
pub fn server_name(address: SocketAddr) -> String {
    let ip = address.ip().to_string().replace(':', "-");
    format!("{ip}.{}.sol", address.port())
}

/// Accepts every certificate, and still checks that the peer holds its key.
#[derive(Debug)]
struct AnyLeader(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyLeader {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_keypair::Signer;

    #[test]
    fn the_certificate_carries_the_identity() {
        let identity = Keypair::new();
        let made = certificate_of(&identity).unwrap();
        // SubjectPublicKeyInfo of Ed25519: the algorithm's identifier, then a bit string of the 32 key bytes.
        let mut info = vec![0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        info.extend_from_slice(&identity.pubkey().to_bytes());
        let der = made.certificate.as_ref();
        assert!(der.windows(info.len()).any(|window| window == info));
        client_config(made).unwrap();
    }

    #[test]
    fn names_are_valid_for_both_families() {
        for (address, name) in [
            ("1.2.3.4:8004", "1.2.3.4.8004.sol"),
            ("[::1]:8004", "--1.8004.sol"),
        ] {
            assert_eq!(server_name(address.parse().unwrap()), name);
        }
    }
}
