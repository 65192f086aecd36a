//! One WebSocket: the only task that reads from it and writes to it.

use core::future::poll_fn;
use core::net::IpAddr;
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;
use std::io;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt, StreamExt};
use netplay_protocol::lobby::ErrorCode;
use tokio::task::unconstrained;
use tokio::time::{Sleep, timeout};
use tungstenite::error::{CapacityError, Error as WsError};

use crate::http::{Carrier, Common};
use crate::outbox::{End, Next, Outbox};

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Pings without a message between them. Answering one costs as much as a message, so this is
/// their rate limit; a client has no reason for any, keep-alives being messages.
const PINGS_MAX: u32 = 100;

/// Bytes of messages of a connection after which they count for its address: to count each message by itself costs
/// a twentieth of what relaying one does.
const PAID_AT_ONCE: usize = 4 * 1024;

/// Bytes of a close frame's reason: RFC 6455 allows 125 with the code.
const REASON_MAX: usize = 123;

/// Boxed: nearly all connections never have one.
type Rest = Pin<Box<Sleep>>;

/// Why a connection ends.
enum Over {
    /// The other side is gone: there is nobody to tell.
    Gone,
    /// The server closes it.
    Close(u16, String),
}

/// Who takes what a connection says, and has what waits for it. Dropping it says that it is gone.
pub(crate) trait Client: Send + Sync {
    /// What waits.
    fn outbox(&self) -> &Outbox;
    /// Clients of a group are closed together when the server stops.
    fn group(&self) -> Option<u64>;
    /// A text frame came.
    fn text(&self, text: &str);
    /// A binary frame came, which nobody uses.
    fn binary(&self);
}

/// Serves a connection to its end.
pub(crate) async fn serve(mut socket: WebSocket, client: impl Client, mut carrier: Carrier) {
    let mut pings = 0;
    // What came until now was the request.
    carrier.line.finished();
    let over = {
        // One for the connection's whole life: to wait anew for each message takes longer than to relay it.
        // A client that never pauses uses up what tokio lets a task do at once, and this must be seen all the same.
        let stopped = carrier.alive.stopped_with(|| client.group());
        let mut stopped = pin!(unconstrained(stopped));
        let (mut rest, mut unpaid) = (None, 0);
        loop {
            match next(&mut socket, &client, stopped.as_mut(), &mut rest).await {
                Event::Stopped => break stops(),
                Event::Rested => rest = None,
                Event::Ready => {
                    let limit = carrier.common.write_timeout;
                    let written = write(&mut socket, client.outbox(), stopped.as_mut(), limit);
                    if let Err(over) = written.await {
                        break over;
                    }
                }
                Event::Received(received) => {
                    match &received {
                        // It may come between the parts of a message.
                        Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => {
                            carrier.line.between(bytes.len());
                        }
                        _ => carrier.line.finished(),
                    }
                    rest = pay(&received, &mut unpaid, carrier.address, &carrier.common);
                    if let Err(over) = read(received, &client, &mut pings) {
                        break over;
                    }
                }
            }
        }
    };
    // The others learn now, not after the last words.
    drop(client);
    match over {
        Over::Close(code, reason) => {
            carrier.common.tally.closed(code);
            carrier.line.linger();
            say_last(&mut socket, code, &reason).await;
        }
        Over::Gone => {
            // Lets the library answer a close frame. Whether that arrives does not matter.
            let _ = timeout(LAST_WORDS, socket.flush()).await;
        }
    }
}

/// What a connection waits for.
enum Event {
    /// Something waits to be sent.
    Ready,
    Received(Option<Result<Message, axum::Error>>),
    /// It has rested.
    Rested,
    Stopped,
}

/// The next event. What waits for the client comes first, for it may go on talking for ever. Whether the server
/// stops is looked at when nothing was received: tokio sees to it that this comes.
async fn next(
    socket: &mut WebSocket,
    client: &impl Client,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
    rest: &mut Option<Rest>,
) -> Event {
    poll_fn(|cx| {
        if client.outbox().is_ready() {
            return Poll::Ready(Event::Ready);
        }
        if let Some(rest) = rest {
            if rest.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Rested);
            }
        } else if let Poll::Ready(received) = socket.poll_next_unpin(cx) {
            return Poll::Ready(Event::Received(received));
        }
        if stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Stopped);
        }
        client.outbox().poll_ready(cx).map(|()| Event::Ready)
    })
    .await
}

/// Counts what came. If its address has sent too much, nothing more is read until this is over: TCP slows the
/// sender down.
fn pay(
    received: &Option<Result<Message, axum::Error>>,
    unpaid: &mut usize,
    address: Option<IpAddr>,
    common: &Common,
) -> Option<Rest> {
    let (Some(address), Some(Ok(message))) = (address, received) else { return None };
    *unpaid += match message {
        Message::Text(text) => text.as_str().len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    };
    if *unpaid < PAID_AT_ONCE {
        return None;
    }
    let rest = common.traffic.spend(address, core::mem::take(unpaid));
    rest.map(|rest| Box::pin(tokio::time::sleep(rest)))
}

fn stops() -> Over {
    Over::Close(1001, "the server stops".into())
}

fn read(
    received: Option<Result<Message, axum::Error>>,
    client: &impl Client,
    pings: &mut u32,
) -> Result<(), Over> {
    match received {
        Some(Ok(Message::Text(text))) => {
            *pings = 0;
            client.text(text.as_str());
            Ok(())
        }
        Some(Ok(Message::Binary(_))) => {
            client.binary();
            Ok(())
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
            *pings += 1;
            match *pings {
                0..=PINGS_MAX => Ok(()),
                _ => Err(Over::Close(1008, "too many pings".into())),
            }
        }
        Some(Ok(Message::Close(_))) | None => Err(Over::Gone),
        Some(Err(error)) => Err(broken(error)),
    }
}

fn broken(error: axum::Error) -> Over {
    match error.into_inner().downcast_ref::<WsError>() {
        Some(WsError::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
            Over::Close(1009, format!("{size} bytes are too many, {max_size} are allowed"))
        }
        Some(WsError::Utf8(_)) => Over::Close(1007, "text must be UTF-8".into()),
        // Our own word: see `Line`.
        Some(WsError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Over::Close(1008, error.to_string())
        }
        Some(WsError::Protocol(error)) => Over::Close(1002, error.to_string()),
        _ => Over::Gone,
    }
}

/// Writes what waits, each frame within the deadline.
async fn write(
    socket: &mut WebSocket,
    outbox: &Outbox,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
    limit: Duration,
) -> Result<(), Over> {
    loop {
        let end = match outbox.next() {
            Next::Send(batch) => {
                for text in batch {
                    let fed = socket.feed(Message::Text(text));
                    within(limit, outbox, stopped.as_mut(), fed).await?;
                }
                continue;
            }
            Next::End(end) => Err(closed(end)),
            Next::Nothing => Ok(()),
        };
        within(limit, outbox, stopped, socket.flush()).await?;
        return end;
    }
}

async fn within(
    limit: Duration,
    outbox: &Outbox,
    stopped: Pin<&mut impl Future<Output = ()>>,
    step: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Over> {
    let mut step = pin!(step);
    // Nearly always the system takes it at once, and nothing has to be waited for.
    let done = match poll_fn(|cx| Poll::Ready(step.as_mut().poll(cx))).await {
        Poll::Ready(done) => done,
        Poll::Pending => tokio::select! {
            biased;
            () = outbox.too_slow() => return Err(too_slow()),
            () = stopped => return Err(stops()),
            done = timeout(limit, step) => done.map_err(|_| too_slow())?,
        },
    };
    done.map_err(|_| Over::Gone)
}

fn too_slow() -> Over {
    Over::Close(ErrorCode::TooSlow.close_code(), "the client reads too slowly".into())
}

fn closed(End { code, text }: End) -> Over {
    Over::Close(code.close_code(), text)
}

async fn say_last(socket: &mut WebSocket, code: u16, reason: &str) {
    let reason = Utf8Bytes::from(&reason[..reason.floor_char_boundary(REASON_MAX)]);
    let close = Message::Close(Some(CloseFrame { code, reason }));
    // A client that does not take it is gone all the same.
    let _ = timeout(LAST_WORDS, socket.send(close)).await;
}
