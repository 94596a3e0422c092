//! The application: it holds associations and calls what their async faces would, and what it holds stays within limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire::engine::ready_cache::Direction;
use tidewire::engine::{Engine, SctpSlot, SlotRef, WakeList};
use tidewire::error::SocketError;
use tidewire::sctp::SendOptions;
use tidewire::sctp::association::{Association, Notification, State};
use tidewire::sctp::config::{
    AssociationParameters, DelayedSack, PeerAddressParameters, RtoInfo, Subscriptions,
};
use tidewire::sctp::path::HeartbeatSwitch;
use tidewire::sctp::send::MESSAGE_OVERHEAD;
use tidewire::time::Instant;
use tidewire::transport::Readiness;

use super::{Input, PEER};

pub(super) const MAX_NOTIFICATIONS: usize = 16;
/// Octets of a receive and of a send buffer at most.
pub(super) const BUFFER: usize = 65_536;
/// The longest message.
const MAX_MESSAGE: usize = 70_000;
/// What an association may hold beyond its receive buffer: twice that while messages that are complete wait for one that
/// is not, one chunk more, and, behind a restart, what could be read before it.
const MAX_RECEIVED: usize = 2 * BUFFER + 65_536 + BUFFER;
/// The send buffer, or one message alone that is larger.
const MAX_TO_SEND: usize = MAX_MESSAGE + MESSAGE_OVERHEAD;
/// Associations held at most.
const MAX_HELD: usize = 8;

#[derive(Default)]
pub(super) struct Application {
    held: Vec<Arc<SctpSlot>>,
}

impl Application {
    pub(super) fn hold(&mut self, slot: Arc<SctpSlot>) {
        self.held.push(slot);
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() < MAX_HELD
    }

    fn pick(&self, choice: u8) -> Option<&Arc<SctpSlot>> {
        let index = usize::from(choice).checked_rem(self.held.len())?;
        self.held.get(index)
    }

    /// Limits of what is held, and whoever waits for what can be had will hear of it.
    pub(super) fn check(&self) {
        for slot in &self.held {
            let state = slot.lock();
            let association = &state.socket.association;
            let status = association.status();
            assert!(status.pending <= MAX_RECEIVED, "{status:?}");
            assert!(status.send_buffered <= MAX_TO_SEND, "{status:?}");
            assert!(status.receive_window <= BUFFER, "{status:?}");
            let bits = state.ready.bits();
            let heard = |can: bool, bit| !can || bits.intersects(bit);
            assert!(
                heard(association.is_readable(), Direction::Read.mask()),
                "{status:?}"
            );
            // A long message may have found no room where a short one would: its sender hears of the next acknowledgement.
            let is_writable = association.is_writable() && status.send_buffered == 0;
            assert!(
                heard(is_writable, Direction::Write.mask()) || status.state.is_opening(),
                "{status:?}"
            );
            assert!(
                heard(
                    association.has_events(),
                    Readiness::PRIORITY | Readiness::WRITE_CLOSED
                ),
                "{status:?}"
            );
        }
    }

    pub(super) fn send(&self, engine: &Engine, input: &mut Input<'_>) {
        let choice = input.u8();
        let Some(slot) = self.pick(choice) else {
            return;
        };
        let options = SendOptions {
            stream: u16::from(choice >> 3 & 7) + 100 * u16::from(choice == 0xff),
            unordered: choice & 0x40 != 0,
            immediate_ack: choice & 0x80 != 0,
            ..SendOptions::default()
        };
        let (count, len) = match input.u8() {
            few @ 0..0x80 => (1, usize::from(few)),
            many @ 0x80..0xc0 => (usize::from(many), 1 + usize::from(input.u8())),
            _ => (1, usize::from(input.u16()) * MAX_MESSAGE / 65_535),
        };
        let message = Bytes::from(vec![choice; len]);
        for _ in 0..count {
            let sent = operate(engine, slot, Direction::Write.mask(), |association| {
                association.send(message.clone(), &options)
            });
            if sent.is_err() {
                return;
            }
        }
    }

    pub(super) fn receive(&self, engine: &Engine, input: &mut Input<'_>) {
        let (choice, count) = (input.u8(), input.u8());
        let Some(slot) = self.pick(choice) else {
            return;
        };
        let max_len = [usize::MAX, 1, 100, 2000][usize::from(choice >> 4) % 4];
        for _ in 0..=count {
            let received = operate(engine, slot, Direction::Read.mask(), |association| {
                association.recv(max_len)
            });
            match received {
                Ok(Some(message)) => assert!((1..=max_len).contains(&message.data.len())),
                _ => return,
            }
        }
    }

    /// Readers of one stream clear no readiness: others may have something to read.
    pub(super) fn receive_on(&self, engine: &Engine, input: &mut Input<'_>) {
        let (choice, count) = (input.u8(), input.u8());
        let Some(slot) = self.pick(choice) else {
            return;
        };
        let stream = u16::from(choice >> 4);
        for _ in 0..=count {
            let received = operate(engine, slot, Readiness::NONE, |association| {
                association.recv_on(stream, usize::MAX)
            });
            match received {
                Ok(Some(message)) => {
                    assert_eq!(message.stream, stream);
                    assert!(!message.data.is_empty());
                }
                _ => return,
            }
        }
    }

    /// Notifications that wait are bounded; messages given back are not counted, they are the send buffer's.
    pub(super) fn read_events(&self, engine: &Engine, input: &mut Input<'_>) {
        let Some(slot) = self.pick(input.u8()) else {
            return;
        };
        let mut count = 0;
        loop {
            let mut state = slot.lock();
            match state.socket.association.poll_event() {
                Some(Notification::SendFailed(failed)) => assert!(!failed.data.is_empty()),
                Some(_) => count += 1,
                None if state.socket.association.state() == State::Closed => break,
                None => {
                    state.ready.clear(Readiness::PRIORITY);
                    break;
                }
            }
        }
        assert!(count <= MAX_NOTIFICATIONS, "{count} notifications");
        engine.mark_ready(SlotRef::from(slot));
    }

    pub(super) fn end(
        &mut self,
        engine: &Engine,
        now: Instant,
        input: &mut Input<'_>,
        wakes: &mut WakeList,
    ) {
        let choice = input.u8();
        let Some(slot) = self.pick(choice).cloned() else {
            return;
        };
        match choice >> 4 {
            0..=3 => {
                slot.lock().socket.association.shutdown(now);
                engine.mark_ready(SlotRef::from(&slot));
            }
            4 => {
                let reason = Bytes::from(vec![0; usize::from(input.u8()) * 8]);
                slot.lock().socket.association.abort(reason);
                engine.mark_ready(SlotRef::from(&slot));
            }
            5 => {
                let linger = Duration::from_millis(u64::from(input.u8()) * 100);
                slot.lock().socket.linger = Some(linger);
            }
            _ => {
                engine.close_sctp(now, &slot, wakes);
                self.held.retain(|other| !Arc::ptr_eq(other, &slot));
            }
        }
    }

    pub(super) fn drop_all(&mut self, engine: &Engine, now: Instant, wakes: &mut WakeList) {
        for slot in self.held.drain(..) {
            engine.close_sctp(now, &slot, wakes);
        }
    }

    pub(super) fn set_option(&self, engine: &Engine, now: Instant, input: &mut Input<'_>) {
        let (choice, value) = (input.u8(), input.u8());
        let Some(slot) = self.pick(choice) else {
            return;
        };
        let association = &mut slot.lock().socket.association;
        // Refused if it makes no sense.
        let _ = match input.u8() % 20 {
            0 | 1 => association.set_rto_info(RtoInfo {
                initial: Some(duration(value)),
                min: Some(duration(input.u8())),
                max: Some(duration(input.u8())),
            }),
            2 => association.set_association_parameters(AssociationParameters {
                max_retrans: Some(u32::from(value % 20)),
                cookie_life: Some(duration(value)),
            }),
            3 | 4 => set_path(association, now, value, input),
            5 => association.set_delayed_sack(DelayedSack {
                delay: Some(duration(value)),
                frequency: Some(u32::from(input.u8())),
            }),
            6 => association.set_primary_path(PEER[usize::from(value) % 2].into()),
            7 => association.request_heartbeat(now, PEER[usize::from(value) % 2].into()),
            other => {
                set_unchecked(association, now, other, value);
                Ok(())
            }
        };
        engine.mark_ready(SlotRef::from(slot));
    }
}

/// As the async faces do it: whoever would block clears what it waits for, and what is left to send is looked at.
fn operate<R>(
    engine: &Engine,
    slot: &Arc<SctpSlot>,
    mask: Readiness,
    operation: impl FnOnce(&mut Association) -> Result<R, SocketError>,
) -> Result<R, SocketError> {
    let mut state = slot.lock();
    let result = operation(&mut state.socket.association);
    if matches!(result, Err(SocketError::WouldBlock)) {
        state.ready.clear(mask);
    }
    if state.socket.association.wants_transmit() {
        engine.mark_ready(SlotRef::from(slot));
    }
    result
}

/// From 1 ms to a minute, and what no clock will reach.
fn duration(value: u8) -> Duration {
    match value {
        0..0x80 => Duration::from_millis(u64::from(value)),
        0x80..0xff => Duration::from_millis(u64::from(value - 0x80) * 500),
        0xff => Duration::MAX,
    }
}

fn set_path(
    association: &mut Association,
    now: Instant,
    value: u8,
    input: &mut Input<'_>,
) -> Result<(), SocketError> {
    let address = match value % 4 {
        0 => Some(PEER[0].into()),
        1 => Some(PEER[1].into()),
        _ => None,
    };
    let is_given = |bit: u8| value & bit != 0;
    let parameters = PeerAddressParameters {
        heartbeat: is_given(8).then_some(if is_given(4) {
            HeartbeatSwitch::On
        } else {
            HeartbeatSwitch::Off
        }),
        heartbeat_interval: is_given(16).then(|| duration(input.u8())),
        path_max_retrans: is_given(32).then(|| u32::from(input.u8() % 8)),
        pf_max_retrans: is_given(128).then(|| u32::from(input.u8() % 8)),
        path_mtu: is_given(64).then(|| usize::from(input.u8()) * 8),
    };
    association.set_peer_address_parameters(now, address, parameters)
}

/// Options of which any value makes sense.
fn set_unchecked(association: &mut Association, now: Instant, option: u8, value: u8) {
    let octets = usize::from(value) * (BUFFER / 256);
    match option {
        8 => association.set_nodelay(value & 1 == 0),
        9 => association.set_maxseg(usize::from(value)),
        10 => association.set_disable_fragments(value & 1 == 0),
        11 => association.set_max_burst(u32::from(value)),
        12 => association.set_send_buffer(octets),
        13 | 14 => association.set_receive_buffer(octets),
        15 => association.set_partial_delivery_point(octets),
        16 => association.set_autoclose((value != 0).then(|| duration(value))),
        17 => association.subscribe(subscriptions(value)),
        18 => drop(association.take_error()),
        _ => association.set_heartbeats(now, HeartbeatSwitch::On),
    }
}

fn subscriptions(bits: u8) -> Subscriptions {
    let all = [
        Subscriptions::ASSOCIATION,
        Subscriptions::PEER_ADDRESS,
        Subscriptions::REMOTE_ERROR,
        Subscriptions::SEND_FAILED,
        Subscriptions::SHUTDOWN,
        Subscriptions::PARTIAL_DELIVERY,
        Subscriptions::SENDER_DRY,
    ];
    let wanted = all.into_iter().enumerate();
    wanted
        .filter(|(i, _)| bits >> i & 1 != 0)
        .fold(Subscriptions::NONE, |all, (_, one)| all | one)
}
