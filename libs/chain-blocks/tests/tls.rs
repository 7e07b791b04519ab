//! Nodes behind TLS: trusted when their authority is, and by no one else's word.

use std::{sync::Arc, time::Duration};

use chain_blocks::rpc::{Nodes, NodesConfig, Reply};
use event_schema::Slot;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

const SKIPPED: &str =
    r#"{"jsonrpc":"2.0","error":{"code":-32007,"message":"Slot 7 was skipped"},"id":7}"#;

/// An authority, and the address of a node that it vouches for.
async fn node() -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let reply = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{SKIPPED}",
                    SKIPPED.len()
                );
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (authority.pem(), format!("https://localhost:{port}/SECRET"))
}

async fn asked(url: &str, ca_pem: Option<&str>) -> Reply {
    let nodes = Nodes::new(&NodesConfig {
        urls: vec![url.to_owned()],
        timeout: Duration::from_secs(10),
        requests_per_second: 1_000,
        reply_mebibytes: 1,
        reply_field: "reply_mebibytes",
        ca_pem: ca_pem.map(|pem| pem.as_bytes().to_vec()),
    })
    .unwrap();
    nodes.ask(0, Slot(7)).await
}

#[tokio::test]
async fn a_node_is_trusted_by_its_authority_alone() {
    let (authority, url) = node().await;
    let (stranger, _) = node().await;
    let reply = asked(&url, Some(&authority)).await;
    assert!(matches!(reply, Reply::NoBlock(_)), "{reply:?}");
    for others in [None, Some(stranger.as_str())] {
        let Reply::Failed(problem) = asked(&url, others).await else {
            panic!("nobody trusted vouches for it");
        };
        assert!(problem.contains("certificate"), "{problem}");
        assert!(!problem.contains("SECRET"), "{problem}");
    }
}
