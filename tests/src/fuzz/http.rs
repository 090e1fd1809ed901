//! Any bytes to the port of `/metrics`, `/healthz`, `/readyz` and of an empty hub's streams, by the door of agent and hub, on loopback.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sedge::vitals::Vitals;
use sedge::{http, shutdown};
use sedge_uplink::hub::{Hub, HubOptions};

/// Whatever is said, the answers are HTTP, those of the two doors or none; the connection ends when the peer has said all, and the next one is served.
pub fn http_request(input: &[u8]) {
    let address = server();
    let said = answer(address, input);
    if !said.is_empty() {
        assert!(
            said.starts_with(b"HTTP/1.1 ") || said.starts_with(b"HTTP/1.0 "),
            "{}",
            String::from_utf8_lossy(&said)
        );
        let status = said
            .get(9..12)
            .and_then(|code| std::str::from_utf8(code).ok());
        let status: u16 = status.and_then(|code| code.parse().ok()).expect("a status");
        assert!(
            matches!(status, 100 | 200 | 400..=499 | 503),
            "a server's fault: {status}"
        );
    }
    let well = said_by(connect(address, WELL));
    assert!(well.starts_with(b"HTTP/1.1 200 ") && well.ends_with(b"ok\n"));
}

/// All that comes back when nothing follows what was said.
fn answer(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let stream = connect(address, request);
    // A reset closes it as well.
    drop(stream.shutdown(Shutdown::Write));
    said_by(stream)
}

fn connect(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    // It may have heard enough before all is said.
    drop(stream.write_all(request));
    stream
}

/// All that comes until the server closes the connection.
fn said_by(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("the connection does not end")
        }
        // A reset closes it as well.
        Ok(_) | Err(_) => said,
    }
}

/// One server for all inputs; it ends with the process.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
                let listener = listener.expect("a port");
                tell.send(listener.local_addr().expect("an address"))
                    .expect("somebody waits for it");
                let (_trigger, stop) = shutdown::pair();
                let metrics: http::Metrics = Arc::new(|| "sedge_up 1\n".to_owned());
                let dir = tempfile::tempdir().expect("a directory");
                let hub = Hub::open(HubOptions::new(dir.path())).await;
                let pages = http::Pages {
                    more: hub.expect("an empty hub").handle().http(),
                    ..http::Pages::here(metrics, Vitals::default())
                };
                http::serve(listener, pages, stop).await;
            });
        });
        told.recv().expect("it listens")
    })
}

const WELL: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(30);
