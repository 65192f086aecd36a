//! The datagrams of one socket that are under way, in both directions.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use netplay_protocol::Now;
use netplay_simnet::{Conditions, Pipe, mix_seed};
use tokio::time::Sleep;
use webrtc::runtime::{AsyncUdpSocket, EcnCodepoint, RecvMeta, Transmit};

use crate::conditioner::LinkConditioner;

/// The longest sleep. Any is right, for a timer that fires early is set again.
const NAP: Duration = Duration::from_secs(60);

/// A datagram on its way out.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    from: Option<IpAddr>,
    contents: Bytes,
}

/// A datagram on its way in.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    meta: RecvMeta,
    contents: Bytes,
}

/// The way out of one socket.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) pipe: Pipe<Outgoing>,
    /// Has left the pipe, and waits until the socket is writable.
    waiting: Option<Outgoing>,
}

impl Exit {
    /// Takes a datagram, or several of the same size.
    pub(super) fn send(&mut self, now: Now, transmit: &Transmit<'_>) {
        let size = transmit.segment_size.unwrap_or(usize::MAX).max(1);
        for contents in transmit.contents.chunks(size) {
            let datagram = Outgoing {
                to: transmit.destination,
                ecn: transmit.ecn,
                from: transmit.src_ip,
                contents: Bytes::copy_from_slice(contents),
            };
            self.pipe.send(now, contents.len(), datagram);
        }
    }

    /// Sends what is due, as long as the socket takes it; if it does not, `cx` is woken when it does.
    /// What the system refuses is lost.
    pub(super) fn release(&mut self, cx: &mut Context<'_>, socket: &dyn AsyncUdpSocket, now: Now) {
        while let Some(datagram) = self.waiting.take().or_else(|| self.pipe.poll(now)) {
            let transmit = Transmit {
                destination: datagram.to,
                ecn: datagram.ecn,
                contents: &datagram.contents,
                segment_size: None,
                src_ip: datagram.from,
            };
            if socket.poll_send(cx, &transmit).is_pending() {
                self.waiting = Some(datagram);
                return;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_none() && self.pipe.in_flight() == 0
    }
}

/// The packets of one socket that are under way.
#[derive(Debug)]
pub(super) struct Pipes {
    /// Of what the game wants.
    pub(super) version: u64,
    /// Whether it wants any conditions; if not, these pipes go when they are empty.
    wanted: bool,
    pub(super) outgoing: Exit,
    pub(super) incoming: Pipe<Incoming>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, if it is set.
    pub(super) armed: Option<Now>,
    /// Of who polls for datagrams.
    pub(super) receiver: Waker,
}

impl Pipes {
    pub(super) fn new(conditioner: LinkConditioner, seed: u64, version: u64) -> Self {
        Self {
            version,
            wanted: true,
            outgoing: Exit {
                pipe: Pipe::new(conditioner.outgoing, mix_seed(seed, 0)),
                waiting: None,
            },
            incoming: Pipe::new(conditioner.incoming, mix_seed(seed, 1)),
            timer: Box::pin(tokio::time::sleep(NAP)),
            armed: None,
            receiver: Waker::noop().clone(),
        }
    }

    pub(super) fn set(&mut self, conditioner: Option<LinkConditioner>, version: u64) {
        self.version = version;
        self.wanted = conditioner.is_some();
        // What comes now passes at once, and what is under way keeps its time.
        let (outgoing, incoming) = match conditioner {
            Some(conditioner) => (conditioner.outgoing, conditioner.incoming),
            None => (Conditions::perfect(), Conditions::perfect()),
        };
        self.outgoing.pipe.set_conditions(outgoing);
        self.incoming.set_conditions(incoming);
    }

    pub(super) fn is_done(&self) -> bool {
        !self.wanted && self.outgoing.is_empty() && self.incoming.in_flight() == 0
    }

    /// Takes what the socket has read, which may be several datagrams of one sender.
    pub(super) fn receive(&mut self, now: Now, meta: &RecvMeta, buffer: &[u8]) {
        let read = buffer.get(..meta.len).unwrap_or(buffer);
        for contents in read.chunks(meta.stride.max(1)) {
            let mut meta = *meta;
            (meta.len, meta.stride) = (contents.len(), contents.len().max(1));
            let datagram = Incoming { meta, contents: Bytes::copy_from_slice(contents) };
            self.incoming.send(now, contents.len(), datagram);
        }
    }

    /// Hands over one datagram that has arrived by now, if there is one.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> bool {
        let ([buffer, ..], [meta, ..]) = (bufs, meta) else {
            return false;
        };
        let Some(datagram) = self.incoming.poll(now) else {
            return false;
        };
        // Such a buffer has held it before.
        let len = datagram.contents.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram.contents[..len]);
        *meta = datagram.meta;
        meta.len = len;
        true
    }

    fn next_deadline(&self) -> Option<Now> {
        [self.outgoing.pipe.next_deadline(), self.incoming.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ready when something may be due.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        self.receiver.clone_from(cx.waker());
        let Some(next) = self.next_deadline() else {
            self.armed = None;
            return Poll::Pending;
        };
        if self.armed != Some(next) {
            let nap = next.since(now).min(NAP);
            self.timer.as_mut().reset(tokio::time::Instant::now() + nap);
            self.armed = Some(next);
        }
        let result = self.timer.as_mut().poll(cx);
        if result.is_ready() {
            self.armed = None;
        }
        result
    }
}
