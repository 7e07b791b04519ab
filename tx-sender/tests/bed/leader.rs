//! A QUIC server in the place of a leader's transaction port, which can misbehave.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use quinn::{Endpoint, ServerConfig, VarInt};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use solana_keypair::{Keypair, Signer};
use tx_sender::tls;

/// Bytes of a stream that are taken in before they are read.
const STREAM_WINDOW: u32 = 64;

/// How the leader treats those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Reads every transaction and keeps it.
    Take,
    /// Closes the connection when the next stream comes, with what was on it unread; then takes what comes.
    DropOnce,
    /// Lets the connection be, and never grants a stream.
    Starve,
    /// Tells each stream to stop, unread.
    Refuse,
}

struct Shared {
    conduct: std::sync::Mutex<Conduct>,
    taken: std::sync::Mutex<Vec<Vec<u8>>>,
    identities: std::sync::Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    closed_streams: AtomicUsize,
}

pub struct TestLeader {
    pub identity: [u8; 32],
    pub address: SocketAddr,
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

impl TestLeader {
    pub fn start() -> Self {
        Self::with(Conduct::Take)
    }

    pub fn with(conduct: Conduct) -> Self {
        let identity = Keypair::new();
        let certificate = tls::certificate_of(&identity).expect("a certificate");
        let provider = Arc::new(tls::crypto());
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_client_cert_verifier(Arc::new(AnyClient(provider)))
            .with_single_cert(vec![certificate.certificate], certificate.key)
            .expect("a key that fits");
        config.alpn_protocols = vec![tls::ALPN_TPU.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("TLS 1.3");
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        let streams = if conduct == Conduct::Starve { 0 } else { 128 };
        transport.max_concurrent_uni_streams(VarInt::from_u32(streams));
        // Smaller than a transaction: what is not read is not acknowledged as a whole.
        transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
        config.transport_config(Arc::new(transport));
        let endpoint =
            Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("a server");
        let shared = Arc::new(Shared {
            conduct: std::sync::Mutex::new(conduct),
            taken: Default::default(),
            identities: Default::default(),
            connections: AtomicUsize::new(0),
            closed_streams: AtomicUsize::new(0),
        });
        let (server, seen) = (endpoint.clone(), shared.clone());
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        serve(connection, seen).await;
                    }
                });
            }
        });
        Self {
            identity: identity.pubkey().to_bytes(),
            address: endpoint.local_addr().expect("an address"),
            endpoint,
            shared,
        }
    }

    /// Identity and address, for the RPC.
    pub fn node(&self) -> ([u8; 32], Option<SocketAddr>) {
        (self.identity, Some(self.address))
    }

    pub fn conduct(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
    }

    /// Transactions as they were read.
    pub fn taken(&self) -> Vec<Vec<u8>> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// How often it got these bytes.
    pub fn count(&self, wire: &[u8]) -> usize {
        self.shared
            .taken
            .lock()
            .unwrap()
            .iter()
            .filter(|taken| *taken == wire)
            .count()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Streams it did not read.
    pub fn closed_streams(&self) -> usize {
        self.shared.closed_streams.load(Ordering::Relaxed)
    }

    /// Certificates of those who came.
    pub fn client_certificates(&self) -> Vec<Vec<u8>> {
        self.shared.identities.lock().unwrap().clone()
    }

    /// Goes away: nothing answers at its address any more.
    pub fn vanish(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"gone");
    }
}

async fn serve(connection: quinn::Connection, shared: Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    if let Some(certificates) = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer>>().ok())
    {
        let mut identities = shared.identities.lock().unwrap();
        identities.extend(certificates.iter().map(|certificate| certificate.to_vec()));
    }
    while let Ok(mut stream) = connection.accept_uni().await {
        let conduct = *shared.conduct.lock().unwrap();
        match conduct {
            Conduct::Take | Conduct::Starve => {
                if let Ok(bytes) = stream.read_to_end(5000).await {
                    shared.taken.lock().unwrap().push(bytes);
                }
            }
            Conduct::DropOnce => {
                *shared.conduct.lock().unwrap() = Conduct::Take;
                shared.closed_streams.fetch_add(1, Ordering::Relaxed);
                // As agave-validator closes those whom it prunes.
                connection.close(VarInt::from_u32(1), b"dropped");
            }
            Conduct::Refuse => {
                shared.closed_streams.fetch_add(1, Ordering::Relaxed);
                let _ = stream.stop(VarInt::from_u32(5));
            }
        }
    }
}

/// Takes any certificate, as leaders do: the key in it is the identity.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC is TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
