//! The stand-in for the WebRTC library. A description is `stand-in SERIAL`.

use netplay_peer::MeshInput;
use netplay_peer::link::driver::{Channel, ConnectionId, DriverCommand, DriverEvent, Phase};
use netplay_protocol::PeerId;
use netplay_protocol::lobby::SignalBody;

use super::{Connection, Item, Lane, PATH, STEP, World};

fn parse(sdp: &str) -> Option<u64> {
    sdp.strip_prefix("stand-in ")?.parse().ok()
}

fn candidate(connection: ConnectionId) -> DriverEvent {
    let candidate =
        SignalBody::Candidate { candidate: "candidate:1".into(), mid: None, mline: Some(0) };
    DriverEvent::Candidate { connection, candidate }
}

impl World {
    pub(super) fn command(&mut self, player: usize, peer: PeerId, command: DriverCommand) {
        match command {
            DriverCommand::Offer { connection } => {
                self.players[player].offers += 1;
                self.begin(player, peer, connection, None);
            }
            DriverCommand::Answer { connection, sdp } => {
                let remote = parse(&sdp).expect("an offer of the other player");
                self.begin(player, peer, connection, Some(remote));
            }
            DriverCommand::SetAnswer { connection, sdp } => {
                self.connection(player, connection).remote = parse(&sdp);
                self.connect(player, connection);
            }
            DriverCommand::AddCandidate { connection, .. } => {
                self.connection(player, connection).candidates = true;
                self.connect(player, connection);
            }
            DriverCommand::Drop { connection } => self.drop_connection(player, peer, connection),
        }
    }

    fn connection(&mut self, player: usize, id: ConnectionId) -> &mut Connection {
        let connections = &mut self.players[player].connections;
        connections.get_mut(&id).expect("no command for a connection that was dropped")
    }

    fn begin(&mut self, player: usize, peer: PeerId, id: ConnectionId, remote: Option<u64>) {
        self.serials += 1;
        let serial = self.serials;
        let connection =
            Connection { serial, remote, candidates: false, connecting: false, open: false };
        let before = self.players[player].connections.insert(id, connection);
        assert!(before.is_none(), "two connections of one name");
        let lane = Lane::Driver(player);
        let sdp = format!("stand-in {serial}");
        self.push(lane, STEP / 2, Item::Event(peer, candidate(id)));
        self.push(lane, STEP, Item::Event(peer, DriverEvent::Described { connection: id, sdp }));
        self.push(lane, 2 * STEP, Item::Event(peer, candidate(id)));
    }

    /// Where the connection with this serial is, if it was not dropped.
    fn place(&self, player: usize, serial: u64) -> Option<ConnectionId> {
        let connections = self.players[player].connections.iter();
        let mut found = connections.filter(|(_, connection)| connection.serial == serial);
        found.next().map(|(id, _)| *id)
    }

    /// Both descriptions and a candidate from each side: a path is found. The answering side's
    /// channels open first.
    fn connect(&mut self, player: usize, id: ConnectionId) {
        let Connection { serial, remote, candidates, .. } = *self.connection(player, id);
        let other = 1 - player;
        let Some(their_id) = remote.and_then(|remote| self.place(other, remote)) else {
            return;
        };
        let theirs = self.connection(other, their_id);
        if theirs.remote != Some(serial) || !theirs.candidates || !candidates || theirs.connecting {
            return;
        }
        theirs.connecting = true;
        self.connection(player, id).connecting = true;
        for (of, connection) in [(player, id), (other, their_id)] {
            let Some(peer) = self.players[1 - of].me else { continue };
            let events = [
                DriverEvent::Progress { connection, phase: Phase::Securing },
                DriverEvent::Progress { connection, phase: Phase::OpeningChannels },
                DriverEvent::ChannelsOpen { connection },
            ];
            for (step, event) in (1..).zip(events) {
                self.push(Lane::Driver(of), 2 * step * PATH, Item::Event(peer, event));
            }
        }
    }

    /// Its own end of a closed connection is reported too, and late. The other side hears of it if
    /// the path to it is not held up.
    fn drop_connection(&mut self, player: usize, peer: PeerId, id: ConnectionId) {
        let dropped = self.players[player].connections.remove(&id);
        let dropped = dropped.expect("a connection is dropped once");
        self.push(Lane::Driver(player), STEP, Item::Event(peer, failed(id)));
        let other = 1 - player;
        if dropped.connecting
            && !self.held.contains(&Lane::Path(other))
            && let Some(remote) = dropped.remote
            && let Some(theirs) = self.place(other, remote)
            && let Some(me) = self.players[player].me
        {
            self.push(Lane::Driver(other), PATH, Item::Event(me, failed(theirs)));
        }
    }

    pub(super) fn driver_says(&mut self, player: usize, peer: PeerId, event: DriverEvent) {
        if let DriverEvent::ChannelsOpen { connection } = event
            && let Some(connection) = self.players[player].connections.get_mut(&connection)
        {
            connection.open = connection.connecting;
        }
        self.input(player, MeshInput::Driver { peer, event });
    }

    pub(super) fn packet(&mut self, to: usize, serial: u64, channel: Channel, packet: Vec<u8>) {
        let Some(connection) = self.place(to, serial) else {
            return;
        };
        if !self.connection(to, connection).open {
            assert_ne!(channel, Channel::Control, "spoke before the other side's channel was open");
            return;
        }
        if let Some(peer) = self.players[1 - to].me {
            self.input(to, MeshInput::Packet { peer, connection, channel, packet });
        }
    }
}

fn failed(connection: ConnectionId) -> DriverEvent {
    DriverEvent::Failed { connection, why: "closed".into() }
}
