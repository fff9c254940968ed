//! Requests of a consumer over TLS, to servers of the test's own: whom the host trusts is whom the machine trusts.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tidegate_tests::Project;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a server shows to say who it is.
fn config(authority: &Authority, name: &str, expired: bool) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![certificate.der().clone()];
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A server that says `{}` to everybody who trusts it; its port.
fn serve(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever does not trust it hangs up.
            drop(answer(stream, &config));
        }
    });
    port
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> anyhow::Result<()> {
    let tls = ServerConnection::new(config.clone())?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    let mut length = 0;
    loop {
        let mut line = String::new();
        anyhow::ensure!(stream.read_line(&mut line)? > 0, "the client is gone");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    let stream = stream.get_mut();
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

#[test]
fn a_server_is_trusted_if_the_machine_trusts_its_authority_and_not_otherwise() {
    let (known, unknown, impostor) = (authority("known"), authority("unknown"), authority("known"));
    let servers = [
        ("trusted", serve(config(&known, "127.0.0.1", false)), "done", ""),
        ("stranger", serve(config(&unknown, "127.0.0.1", false)), "retry", "UnknownIssuer"),
        ("impostor", serve(config(&impostor, "127.0.0.1", false)), "retry", "BadSignature"),
        ("somebody-else", serve(config(&known, "shop.example.com", false)), "retry", "not valid for name"),
        ("expired", serve(config(&known, "127.0.0.1", true)), "retry", "expired"),
        // The right server, and an origin that is not the granted one.
        ("not-granted", serve(config(&known, "127.0.0.1", false)), "refused", "is not granted"),
    ];
    let mut manifest =
        "tidegate: 1\nserver: { listen: 127.0.0.1:0 }\nlog: sqlite:data/tidegate.db\nconsumers:\n".to_owned();
    for (name, port, ..) in &servers {
        let granted = if *name == "not-granted" { 1 } else { *port };
        write!(
            manifest,
            "  {name}:\n    component: puppet.wasm\n    on: order.created\n    retry: {{ attempts: 1 }}\n    grants: {{ publish: \
             ['**'], state: true, http: ['https://127.0.0.1:{granted}'], config: {{ hand: 'https://127.0.0.1:{port}' }} }}\n"
        )
        .unwrap();
    }
    let project = Project::new(&manifest);
    project.install("puppet", "puppet.wasm");
    project.write("authority.pem", known.pem());
    let host = project.start_with(&[("SSL_CERT_FILE", &project.path("authority.pem"))]);
    let sequence = host.emit("order-1", "order.created");
    for (name, _, outcome, reason) in &servers {
        host.client().settled(name, sequence);
        let rows =
            project.rows(&format!("SELECT outcome, coalesce(reason, '') FROM outcomes WHERE consumer = '{name}'"));
        let [ended, said] = [0, 1].map(|n| rows[0][n].as_str().unwrap().to_owned());
        assert_eq!(ended, *outcome, "{name}: {said}");
        assert!(said.contains(reason), "{name}: {said}");
        assert_eq!(said.contains("unreachable"), *outcome == "retry", "{name}: {said}");
    }
}
