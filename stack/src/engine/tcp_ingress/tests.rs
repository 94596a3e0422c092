//! What two drivers bring about together: one has not found a connection that the other sets up meanwhile.

use super::*;
use crate::engine::sockets::TcpOptions;
use crate::engine::tests::NoDevices;
use crate::engine::{Config, FlushOutcome, WakeList};
use crate::tcp::TransmitLimits;
use crate::time::Instant;
use crate::transport::ports::BindRequest;

/// A connection over the loopback, and its client's first data, which has not been delivered.
struct Race {
    engine: Engine,
    listener: Arc<ListenerSlot>,
    server: Arc<TcpSlot>,
    tuple: Tuple,
    segment: Segment,
}

impl Race {
    fn new() -> Self {
        let engine = Engine::new(Config {
            seed: Some(1),
            ..Config::default()
        });
        let options = TcpOptions::default();
        let local: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
        let lease = engine.tcp_bind(&BindRequest::new(local)).unwrap();
        let listener = engine.tcp_listen(lease, 1, false, &options).unwrap();
        let client = engine.tcp_connect(Instant::ZERO, None, local, &options);
        let client = client.unwrap();
        let mut wakes = WakeList::new();
        while engine.flush(Instant::ZERO, &NoDevices, &mut wakes) != FlushOutcome::Done {}
        wakes.wake_all();
        let (server, remote) = engine.tcp_accept(&listener).unwrap();
        let mut state = client.lock();
        let connection = &mut state.socket.connection;
        assert_eq!(connection.write(b"first"), Ok(5));
        let limits = TransmitLimits {
            path_mtu: 65_535,
            ip_header_len: 20,
            max_super_payload: 0,
        };
        let sent = connection.poll_transmit(Instant::ZERO, &limits).unwrap();
        let segment = Segment {
            header: sent.header,
            segment_size: 5,
            payload: sent.payload,
            ecn: sent.ecn,
        };
        drop(state);
        Self {
            engine,
            listener,
            server,
            tuple: Tuple { local, remote },
            segment,
        }
    }

    /// The segment meets no connection, and then there is one.
    fn arrive_late(&self) -> Result<(), DropReason> {
        let mut wakes = WakeList::new();
        let mut inbound = Inbound::new(Instant::ZERO, InterfaceId::LOOPBACK, &mut wakes);
        let origin = SegmentOrigin {
            source: self.tuple.remote.ip(),
            destination: self.tuple.local.ip(),
            ecn: Ecn::NotEct,
            return_route: None,
        };
        let segment = self.segment.clone();
        let result = self
            .engine
            .receive_unconnected(&mut inbound, origin, self.tuple, segment);
        wakes.wake_all();
        result
    }

    fn received(&self) -> usize {
        let state = self.server.lock();
        state.socket.connection.receive_buffered()
    }
}

#[test]
fn data_that_overtakes_the_end_of_its_handshake_is_not_refused() {
    let race = Race::new();
    assert_eq!(race.arrive_late(), Ok(()));
    assert_eq!(race.received(), 5);
    assert_eq!(race.engine.stats().dropped(DropReason::BadAck), 0);
}

#[test]
fn nor_is_it_when_the_listener_has_gone_meanwhile() {
    let race = Race::new();
    let mut wakes = WakeList::new();
    race.engine
        .close_listener(Instant::ZERO, &race.listener, &mut wakes);
    wakes.wake_all();
    assert_eq!(race.arrive_late(), Ok(()));
    assert_eq!(race.received(), 5);
}

#[test]
fn what_is_for_nobody_is_refused_as_before() {
    let race = Race::new();
    let removed = write(&race.engine.connections).remove(&race.tuple);
    assert!(removed.is_some());
    assert_eq!(race.arrive_late(), Err(DropReason::BadAck));
    assert_eq!(race.received(), 0);
}
