//! `quinn` with its default settings: one bidirectional stream for as long as the connection lives,
//! each message with its length in front.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivatePkcs8KeyDer;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Arrivals, Delivery, Ends, Site};
use crate::Result;
use crate::forwarder::End;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const NAME: &str = "localhost";

/// Connects a client to a server; the server's address is the forwarder's.
pub async fn connect(site: &Site<'_>) -> Result<Ends> {
    let [handle_a, handle_b] = &site.runtimes;
    let [arrivals_a, arrivals_b] = site.arrivals.clone();
    let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let certificate = certified.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let server_config = ServerConfig::with_single_cert(vec![certificate], key.into())?;
    let client_config = ClientConfig::with_root_certificates(Arc::new(roots))?;

    let server = in_runtime(handle_b, || Endpoint::server(server_config, LOOPBACK))?;
    let mut client = in_runtime(handle_a, || Endpoint::client(LOOPBACK))?;
    client.set_default_client_config(client_config);
    let address = site.forwarder.stand_in(End::B, server.local_addr()?)?;

    let accepting = handle_b.spawn(async move {
        let connection = server.accept().await.ok_or("the endpoint closed")?.await?;
        let (send, mut receive) = connection.accept_bi().await?;
        read_message(&mut receive).await?;
        Ok::<_, crate::Error>(Stream { connection, send, receive })
    });
    let connecting = handle_a.spawn(async move {
        let connection = client.connect(address, NAME)?.await?;
        let (mut send, receive) = connection.open_bi().await?;
        // A stream becomes known to the other side with its first byte.
        write_message(&mut send, b"").await?;
        Ok::<_, crate::Error>(Stream { connection, send, receive })
    });
    let (a, b) = (connecting.await??, accepting.await??);
    Ok([Box::new(a.start(handle_a, arrivals_a)), Box::new(b.start(handle_b, arrivals_b))])
}

/// An endpoint's tasks run where it is made.
fn in_runtime<T>(runtime: &Handle, make: impl FnOnce() -> std::io::Result<T>) -> Result<T> {
    let _entered = runtime.enter();
    Ok(make()?)
}

async fn write_message(stream: &mut SendStream, message: &[u8]) -> Result<()> {
    let length = u16::try_from(message.len())?;
    // One write, so that the length does not leave alone.
    let framed = [&length.to_le_bytes()[..], message].concat();
    Ok(stream.write_all(&framed).await?)
}

async fn read_message(stream: &mut RecvStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut message = vec![0; u16::from_le_bytes(length).into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

struct Stream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Stream {
    fn start(self, runtime: &Handle, arrivals: Arrivals) -> Sender {
        let Self { connection, mut send, mut receive } = self;
        runtime.spawn(async move {
            while let Ok(message) = read_message(&mut receive).await {
                arrivals.note(&message);
            }
        });
        let (sender, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        runtime.spawn(async move {
            while let Some(message) = queue.recv().await {
                if write_message(&mut send, &message).await.is_err() {
                    break;
                }
            }
            connection.close(0_u32.into(), b"");
        });
        Sender(sender)
    }
}

struct Sender(mpsc::UnboundedSender<Vec<u8>>);

impl Delivery for Sender {
    fn send(&mut self, message: Vec<u8>) -> Result<()> {
        Ok(self.0.send(message)?)
    }
}
