//! The library under our settings, without sockets, in simulated time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use rtc::data_channel::RTCDataChannelId;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::*;

const STEP: Duration = Duration::from_millis(5);
const SEND_EVERY: Duration = Duration::from_millis(50);
/// First bytes of what ICE sends (RFC 7983).
const STUN: core::ops::RangeInclusive<u8> = 0..=3;

/// One end.
struct End {
    pc: RTCPeerConnection,
    address: SocketAddr,
    channel: RTCDataChannelId,
    received: u32,
    states: Vec<RTCPeerConnectionState>,
}

impl End {
    fn new(address: &str, now: Instant) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let builder = RTCPeerConnectionBuilder::new().with_setting_engine(settings());
        let mut pc = builder.build(now).unwrap();
        let base_config = CandidateConfig {
            network: "udp".to_owned(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..Default::default()
        };
        let candidate = CandidateHostConfig { base_config, ..Default::default() };
        let candidate = RTCIceCandidate::from(&candidate.new_candidate_host().unwrap());
        pc.add_local_candidate(candidate.to_json().unwrap()).unwrap();
        let init = RTCDataChannelInit { negotiated: Some(0), ..Default::default() };
        let channel = pc.create_data_channel("", Some(init)).unwrap().id();
        Self { pc, address, channel, received: 0, states: Vec::new() }
    }

    fn is_connected(&self) -> bool {
        self.states.last() == Some(&RTCPeerConnectionState::Connected)
    }
}

/// Two ends, and what is under way from each to the other.
struct Wire {
    ends: [End; 2],
    packets: [VecDeque<TaggedBytesMut>; 2],
    now: Instant,
}

impl Wire {
    /// Two that are connected.
    fn connected() -> Self {
        let now = Instant::now();
        let mut ends = [End::new("10.0.0.1:1000", now), End::new("10.0.0.2:1000", now)];
        let [a, b] = &mut ends;
        let offer = a.pc.create_offer(None).unwrap();
        a.pc.set_local_description(now, offer.clone()).unwrap();
        b.pc.set_remote_description(now, offer).unwrap();
        let answer = b.pc.create_answer(None).unwrap();
        b.pc.set_local_description(now, answer.clone()).unwrap();
        a.pc.set_remote_description(now, answer).unwrap();
        let mut wire = Self { ends, packets: Default::default(), now };
        wire.run(Duration::from_secs(3), true);
        assert!(wire.ends.iter().all(End::is_connected));
        wire
    }

    /// Lets time pass, while both send; the checks of ICE pass or do not.
    fn run(&mut self, duration: Duration, checks_pass: bool) {
        let until = self.now + duration;
        let mut send_at = self.now;
        while self.now < until {
            self.now += STEP;
            let sends = self.now >= send_at;
            if sends {
                send_at = self.now + SEND_EVERY;
            }
            for from in 0..2 {
                self.turn(from, sends);
                let packets = core::mem::take(&mut self.packets[from]);
                let to = &mut self.ends[1 - from].pc;
                for packet in packets {
                    if checks_pass || !STUN.contains(&packet.message[0]) {
                        to.handle_read(packet).unwrap();
                    }
                }
            }
        }
    }

    fn turn(&mut self, from: usize, sends: bool) {
        let end = &mut self.ends[from];
        end.pc.handle_timeout(self.now).unwrap();
        if sends
            && end.is_connected()
            && let Some(mut channel) = end.pc.data_channel(end.channel)
        {
            // It opens a little after the connection.
            let _ = channel.send_text(self.now, "a game's");
        }
        while let Some(event) = end.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                end.states.push(state);
            }
        }
        while let Some(message) = end.pc.poll_read() {
            if let RTCMessage::DataChannelMessage(..) = message.message {
                end.received += 1;
            }
        }
        while let Some(packet) = end.pc.poll_write() {
            let transport = TransportContext {
                local_addr: packet.transport.peer_addr,
                peer_addr: end.address,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            };
            let message = packet.message;
            self.packets[from].push_back(TaggedBytesMut { now: self.now, transport, message });
        }
    }
}

/// Found: a path that came and went every second let none of ICE's checks pass, which are two seconds apart,
/// and after 40 s of that ICE dropped a connection that carried the game whenever there was a path.
#[test]
fn a_connection_that_is_heard_lives_though_the_checks_of_ice_are_lost() {
    let mut wire = Wire::connected();
    let before = wire.ends.each_ref().map(|end| end.received);
    let time = Duration::from_secs(120);
    wire.run(time, false);
    for (end, before) in wire.ends.iter().zip(before) {
        assert!(end.is_connected(), "{:?}", end.states);
        let sent = time.as_millis() / SEND_EVERY.as_millis();
        let received = u128::from(end.received - before);
        assert!(received >= sent * 9 / 10, "{received} of {sent}");
    }
}

/// The link's own liveness decides how long a silence may last.
#[test]
fn a_connection_does_not_end_by_itself_in_a_silence() {
    let mut wire = Wire::connected();
    let before = wire.ends.each_ref().map(|end| end.states.len());
    for _ in 0..120 {
        wire.now += Duration::from_secs(1);
        (0..2).for_each(|from| wire.turn(from, false));
        wire.packets = Default::default();
    }
    assert_eq!(wire.ends.each_ref().map(|end| end.states.len()), before);
}
