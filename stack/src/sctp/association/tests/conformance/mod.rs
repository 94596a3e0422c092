//! Conformance, by the groups of ETSI TS 102 369: `CONFORMANCE.md`, beside SCTP's code, says which test shows what.
//!
//! The peer is a script: [`Tester`] hands packets, good and bad ones, to one endpoint of ours, and looks at each packet that
//! comes back. Where both sides have a part, a test runs for each [`Role`].

mod acknowledgement;
mod bundling;
mod data;
mod duplicates;
mod errors;
mod faults;
mod invalid_messages;
mod miscellaneous;
mod multihoming;
mod retransmission;
mod set_up;
mod termination;

use super::*;
use crate::sctp::config::{InitMessage, RtoInfo};
use crate::wire::sctp::{InitParameters, Sack};

/// The tag and the first TSN of the tester's side.
const PEER_TAG: u32 = 0x7e57;
const PEER_TSN: u32 = 1000;
/// The window of the tester's side.
const PEER_RWND: u32 = 100_000;
/// What the tester gives as a cookie: it keeps no state that would have to be in it.
const COOKIE: Bytes = Bytes::from_static(b"a cookie");
/// An address of the peer beside BOB.
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

/// Which side our endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Ours sends the INIT.
    Initiator,
    /// The tester sends it.
    Responder,
}

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

/// A packet of ours as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    destination: IpAddr,
    tag: u32,
    chunks: Vec<Chunk>,
}

/// An endpoint of ours, and what its peer knows.
struct Tester {
    now: Instant,
    config: Arc<Config>,
    options: SocketOptions,
    random: Random,
    endpoint: Endpoint,
    backlog: Backlog,
    association: Option<Association>,
    /// Answers that our endpoint has given, and the tester not looked at.
    answers: std::collections::VecDeque<Transmit>,
    arena: BytesMut,
    /// Our side's tag, as its INIT or INIT ACK has told it: what the tester's packets carry.
    tag: u32,
    /// Our side's first TSN.
    tsn: u32,
}

impl Tester {
    fn new() -> Self {
        Self::with(Config::default(), SocketOptions::default())
    }

    fn with(config: Config, options: SocketOptions) -> Self {
        let now = Instant::from_millis(1000);
        let config = Arc::new(config);
        let mut random = Random::new(Some(369));
        Self {
            now,
            endpoint: Endpoint::new(now, &config, &options, random.fork(), Vec::new()),
            config,
            options,
            random,
            backlog: Backlog::HasRoom,
            association: None,
            answers: std::collections::VecDeque::new(),
            arena: BytesMut::new(),
            tag: 0,
            tsn: 0,
        }
    }

    /// An association in ESTABLISHED; the user has read of it.
    fn established(role: Role) -> Self {
        Self::new().establish(role)
    }

    fn establish(mut self, role: Role) -> Self {
        self.set_up(role, init());
        self.events();
        self
    }

    /// The handshake, with this as the tester's INIT or INIT ACK.
    fn set_up(&mut self, role: Role, ours: Init) {
        match role {
            Role::Initiator => {
                self.connect();
                self.receive_init();
                self.send(&[acknowledging(ours)]);
                self.expect(&[Chunk::CookieEcho(COOKIE)]);
                self.send(&[Chunk::CookieAck]);
            }
            Role::Responder => {
                let cookie = self.cookie_for(ours);
                self.send(&[Chunk::CookieEcho(cookie)]);
                self.expect(&[Chunk::CookieAck]);
            }
        }
        self.expect_nothing();
        assert_eq!(self.state(), Some(State::Established), "{role:?}");
    }

    fn parameters(&mut self) -> Parameters {
        Parameters {
            config: Arc::clone(&self.config),
            options: self.options.clone(),
            secrets: self.endpoint.secrets(),
            random: self.random.fork(),
            path_mtu: MTU,
        }
    }

    /// The user wants an association with the tester.
    fn connect(&mut self) {
        self.connect_to(&[BOB]);
    }

    fn connect_to(&mut self, addresses: &[IpAddr]) {
        let ends = Ends {
            peer_addresses: addresses.to_vec(),
            ..ends(0)
        };
        let parameters = self.parameters();
        self.association = Some(Association::connect(self.now, parameters, ends));
    }

    /// Our INIT, which is alone and has no tag.
    fn receive_init(&mut self) -> Init {
        let seen = self.receive();
        assert_eq!(seen.tag, 0, "8.5.1 A");
        match &seen.chunks[..] {
            [Chunk::Init(init)] => {
                (self.tag, self.tsn) = (init.initiate_tag, init.initial_tsn);
                Init::clone(init)
            }
            other => panic!("no INIT: {other:?}"),
        }
    }

    /// Sends an INIT; the answer, which is an INIT ACK.
    fn init_ack_for(&mut self, init: Init) -> Init {
        let tag = init.initiate_tag;
        self.send_tagged(0, &[Chunk::Init(Box::new(init))]);
        let seen = self.receive();
        assert_eq!(seen.tag, tag);
        match &seen.chunks[..] {
            [Chunk::InitAck(ack)] => {
                (self.tag, self.tsn) = (ack.initiate_tag, ack.initial_tsn);
                Init::clone(ack)
            }
            other => panic!("no INIT ACK: {other:?}"),
        }
    }

    /// The cookie that an INIT is answered with.
    fn cookie_for(&mut self, init: Init) -> Bytes {
        let ack = self.init_ack_for(init);
        ack.parameters.state_cookie.expect("a cookie")
    }

    /// A packet with the tag that ours expects.
    fn send(&mut self, chunks: &[Chunk]) {
        self.send_tagged(self.tag, chunks);
    }

    fn send_tagged(&mut self, tag: u32, chunks: &[Chunk]) {
        self.send_from(BOB, tag, chunks);
    }

    fn send_from(&mut self, source: IpAddr, tag: u32, chunks: &[Chunk]) {
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(header(tag), MTU, &mut arena);
        for chunk in chunks {
            assert!(builder.push(chunk), "too much for a packet");
        }
        self.deliver(source, &builder.finish());
    }

    /// A packet with chunks that no builder gives.
    fn send_octets(&mut self, tag: u32, chunks: &[u8]) {
        let octets = [&header(tag).emit()[..], chunks].concat();
        self.deliver(BOB, &Packet::from_bytes(octets.into()));
    }

    fn deliver(&mut self, source: IpAddr, packet: &Packet) {
        let info = PacketInfo {
            source,
            destination: ALICE,
        };
        if let Some(association) = &mut self.association
            && association.state != State::Closed
        {
            let _ = association.handle_packet(self.now, &info, packet);
            return;
        }
        let arrived = self
            .endpoint
            .handle_packet(self.now, &info, packet, self.backlog);
        match arrived {
            Arrived::Accept(cookie) => {
                let parameters = self.parameters();
                let mut association =
                    Association::accept(self.now, parameters, &cookie, Vec::new());
                let taken = association.handle_packet(self.now, &info, packet);
                assert_eq!(taken, Ok(()), "its own cookie");
                self.association = Some(association);
            }
            Arrived::Reply(reply) => {
                let transmit = reply.into_transmit(&mut BytesMut::new());
                self.answers.push_back(transmit);
            }
            Arrived::Drop(_) => {}
        }
    }

    /// The next packet of ours, if there is one now.
    fn try_receive(&mut self) -> Option<Seen> {
        let transmit = match self.answers.pop_front() {
            Some(answer) => answer,
            None => {
                let association = self.association.as_mut()?;
                association.poll_transmit(self.now, &mut self.arena)?
            }
        };
        assert!(sctp_is_intact(&transmit.packet, 0));
        let (header, mut reader) = PacketReader::new(&transmit.packet).expect("a packet");
        let ports = (header.source_port, header.destination_port);
        assert_eq!(ports, (PORTS[0], PORTS[1]));
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next_chunk() {
            chunks.push(chunk.expect("our own chunks are good"));
        }
        Some(Seen {
            destination: transmit.destination,
            tag: header.verification_tag,
            chunks,
        })
    }

    fn receive(&mut self) -> Seen {
        self.try_receive().expect("a packet")
    }

    /// The next packet has these chunks, the tester's tag, and goes to the tester.
    fn expect(&mut self, chunks: &[Chunk]) {
        self.expect_tagged(PEER_TAG, chunks);
    }

    fn expect_tagged(&mut self, tag: u32, chunks: &[Chunk]) {
        let expected = Seen {
            destination: BOB,
            tag,
            chunks: chunks.to_vec(),
        };
        assert_eq!(self.receive(), expected);
    }

    fn expect_nothing(&mut self) {
        assert_eq!(self.try_receive(), None);
    }

    /// DATA, and nothing else, is in the next packet: it.
    fn expect_data(&mut self) -> Vec<Data> {
        let seen = self.receive();
        assert_eq!(seen.tag, PEER_TAG);
        let data = seen.chunks.into_iter().map(|chunk| match chunk {
            Chunk::Data(data) => data,
            other => panic!("no DATA: {other:?}"),
        });
        data.collect()
    }

    /// A SACK is next, alone, to the tester.
    fn expect_sack(&mut self) -> Sack {
        let seen = self.receive();
        assert_eq!((seen.tag, seen.destination), (PEER_TAG, BOB));
        match &seen.chunks[..] {
            [Chunk::Sack(sack)] => sack.clone(),
            other => panic!("no SACK: {other:?}"),
        }
    }

    /// The next packet is an ABORT with one cause: it.
    fn expect_abort(&mut self, tag: u32, tag_reflected: bool) -> Option<ErrorCause> {
        let seen = self.receive();
        assert_eq!(seen.tag, tag);
        match &seen.chunks[..] {
            [
                Chunk::Abort {
                    causes,
                    tag_reflected: reflected,
                },
            ] => {
                assert_eq!(*reflected, tag_reflected);
                let mut causes = causes.iter();
                let cause = causes.next().map(|cause| cause.expect("a good cause"));
                assert_eq!(causes.next(), None);
                cause
            }
            other => panic!("no ABORT: {other:?}"),
        }
    }

    /// There is no association: a HEARTBEAT is out of the blue, which an ABORT with the tag that came shows (8.4, 8).
    fn expect_no_association(&mut self) {
        self.send(&[heartbeat()]);
        assert_eq!(self.expect_abort(self.tag, true), None);
    }

    /// Lets the next timer of ours fire: how long that took.
    fn fire(&mut self) -> Duration {
        let start = self.now;
        let association = self.association.as_mut().expect("an association");
        self.now = association.poll_timeout().expect("a timer").max(start);
        association.handle_timeout(self.now);
        self.now - start
    }

    /// Lets time pass, with the timers that fire within it.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let association = self.association.as_mut().expect("an association");
        while let Some(at) = association.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            association.handle_timeout(self.now);
            // A SACK that is due stays so until it is sent.
            if association.poll_timeout().is_some_and(|at| at <= self.now) {
                break;
            }
        }
        self.now = end;
    }

    fn ours(&mut self) -> &mut Association {
        self.association.as_mut().expect("an association")
    }

    fn state(&self) -> Option<State> {
        self.association.as_ref().map(Association::state)
    }

    fn events(&mut self) -> Vec<Notification> {
        let ours = self.ours();
        std::iter::from_fn(|| ours.poll_event()).collect()
    }

    /// The user sends a message on stream 0.
    fn write(&mut self, message: impl Into<Bytes>) {
        assert_eq!(self.ours().send(message.into(), &on(0)), Ok(()));
    }

    fn refused_write(&mut self) -> SocketError {
        let message = Bytes::from_static(b"late");
        let refused = self.ours().send(message, &on(0));
        refused.expect_err("nothing can be sent any more")
    }

    fn read(&mut self) -> Result<Option<Bytes>, SocketError> {
        let message = self.ours().recv(usize::MAX)?;
        Ok(message.map(|message| message.data))
    }

    fn shutdown(&mut self) {
        let now = self.now;
        self.ours().shutdown(now);
    }

    /// Ours has asked for the end, and sent its SHUTDOWN.
    fn shutdown_sent(role: Role) -> Self {
        let mut tester = Self::established(role);
        tester.shutdown();
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        assert_eq!(tester.state(), Some(State::ShutdownSent));
        tester
    }

    /// The tester has asked for the end, and has our SHUTDOWN ACK.
    fn shutdown_ack_sent(role: Role) -> Self {
        let mut tester = Self::established(role);
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        assert_eq!(tester.state(), Some(State::ShutdownAckSent));
        tester
    }

    /// DATA of ours up to the `n`th, from 1 on, has come; the window is `a_rwnd`.
    fn acknowledge(&mut self, n: u32, a_rwnd: u32) {
        let sack = self.sack(n, a_rwnd);
        self.send(&[sack]);
    }

    /// The SACK that says so.
    fn sack(&self, n: u32, a_rwnd: u32) -> Chunk {
        Chunk::Sack(Sack {
            cumulative_tsn_ack: self.tsn.wrapping_add(n).wrapping_sub(1),
            a_rwnd,
            ..Sack::default()
        })
    }

    /// An association that the user has opened with both of the peer's addresses: both are confirmed (RFC 9260 5.4, rule 1).
    fn with_two_addresses(options: SocketOptions) -> Self {
        let mut tester = Self::with(Config::default(), options);
        tester.connect_to(&[BOB, OTHER]);
        tester.receive_init();
        let mut listed = init();
        listed.parameters.addresses.extend([BOB, OTHER]);
        tester.send(&[acknowledging(listed)]);
        tester.expect(&[Chunk::CookieEcho(COOKIE)]);
        tester.send(&[Chunk::CookieAck]);
        tester
    }

    /// Our `n`th TSN, from 1 on.
    fn nth_tsn(&self, n: u32) -> u32 {
        self.tsn.wrapping_add(n - 1)
    }
}

fn header(tag: u32) -> CommonHeader {
    CommonHeader {
        source_port: PORTS[1],
        destination_port: PORTS[0],
        verification_tag: tag,
    }
}

/// The tester's INIT.
fn init() -> Init {
    Init {
        initiate_tag: PEER_TAG,
        a_rwnd: PEER_RWND,
        outbound_streams: 5,
        inbound_streams: 5,
        initial_tsn: PEER_TSN,
        parameters: InitParameters::default(),
    }
}

/// An INIT ACK that says this, with the tester's cookie.
fn acknowledging(mut init: Init) -> Chunk {
    init.parameters.state_cookie.get_or_insert(COOKIE);
    Chunk::InitAck(Box::new(init))
}

/// The `n`th DATA chunk of the tester, from 1 on: a message of its own on stream 0.
fn nth_data(n: u32, payload: &'static [u8]) -> Chunk {
    fragment(n, n as u16 - 1, whole(), payload)
}

/// The same with the flags of a fragment.
fn fragment(n: u32, ssn: u16, flags: DataFlags, payload: &'static [u8]) -> Chunk {
    Chunk::Data(Data {
        header: DataHeader {
            tsn: PEER_TSN + n - 1,
            stream: 0,
            ssn,
            ppid: 0,
            flags,
        },
        payload: Bytes::from_static(payload),
    })
}

fn whole() -> DataFlags {
    DataFlags::BEGINNING | DataFlags::END
}

fn heartbeat() -> Chunk {
    Chunk::Heartbeat(Bytes::from_static(b"are you there"))
}

const fn shutdown(cumulative_tsn_ack: u32) -> Chunk {
    Chunk::Shutdown { cumulative_tsn_ack }
}

fn shutdown_complete(tag_reflected: bool) -> Chunk {
    Chunk::ShutdownComplete { tag_reflected }
}

fn abort(cause: Option<ErrorCause>) -> Chunk {
    Chunk::Abort {
        tag_reflected: false,
        causes: cause.into_iter().collect(),
    }
}

fn error(cause: ErrorCause) -> Chunk {
    Chunk::Error(Causes::from_iter([cause]))
}

/// The octets of an INIT or INIT ACK, with parameters that no builder gives.
fn init_octets(kind: u8, init: &Init, parameters: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind, 0];
    octets.extend_from_slice(&(20 + parameters.len() as u16).to_be_bytes());
    for word in [init.initiate_tag, init.a_rwnd] {
        octets.extend_from_slice(&word.to_be_bytes());
    }
    for streams in [init.outbound_streams, init.inbound_streams] {
        octets.extend_from_slice(&streams.to_be_bytes());
    }
    octets.extend_from_slice(&init.initial_tsn.to_be_bytes());
    octets.extend_from_slice(parameters);
    octets
}

/// What the user is told of an association that ended: whether it was one, and the error.
fn lost(events: &[Notification]) -> Option<Option<SocketError>> {
    events.iter().find_map(|event| match event {
        Notification::AssociationChange(
            AssociationChange::CommunicationLost { error, .. }
            | AssociationChange::CannotStart { error, .. },
        ) => Some(*error),
        _ => None,
    })
}

fn came_up(outbound_streams: u16, inbound_streams: u16) -> Notification {
    Notification::AssociationChange(AssociationChange::CommunicationUp {
        outbound_streams,
        inbound_streams,
    })
}

/// RTO.Initial and RTO.Min of 100 ms, RTO.Max of 800 ms, and no longer T1: times that tests can go through by hand. No path
/// is potentially failed: the suite knows RFC 9260's states only.
fn quick() -> SocketOptions {
    SocketOptions {
        rto: RtoInfo {
            initial: Some(ms(100)),
            min: Some(ms(100)),
            max: Some(ms(800)),
        },
        init: InitMessage {
            max_timeout: Some(ms(800)),
            ..InitMessage::default()
        },
        peer_address: PeerAddressParameters {
            pf_max_retrans: Some(u32::MAX),
            ..PeerAddressParameters::default()
        },
        ..SocketOptions::default()
    }
}
