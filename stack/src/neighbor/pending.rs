//! Who and what waits for one neighbour (RFC 4861 7.2.2).

use std::collections::VecDeque;

use tidewire_netdev::Packet;

/// Waiters and packets, until the neighbour answers or does not.
#[derive(Debug)]
pub(super) struct Pending<W> {
    waiters: Vec<W>,
    packets: VecDeque<Packet>,
    octets: usize,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    /// Packets.
    pub(super) packets: usize,
    /// Octets, as [`cost`] counts them.
    pub(super) octets: usize,
}

impl<W> Pending<W> {
    pub(super) const fn new() -> Self {
        Self {
            waiters: Vec::new(),
            packets: VecDeque::new(),
            octets: 0,
        }
    }

    /// Octets that wait.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    pub(super) const fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Packets that wait.
    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// One more waiter, or it back if there are `limit` already.
    pub(super) fn push_waiter(&mut self, waiter: W, limit: usize) -> Result<(), W> {
        if self.waiters.len() >= limit {
            return Err(waiter);
        }
        self.waiters.push(waiter);
        Ok(())
    }

    /// One more packet, for which the oldest make room (RFC 4861 7.2.2); gives how many went, or the packet back if
    /// there would be no room even alone.
    pub(super) fn push_packet(
        &mut self,
        packet: Packet,
        limits: QueueLimits,
    ) -> Result<u64, Box<Packet>> {
        let cost = cost(&packet);
        if cost > limits.octets || limits.packets == 0 {
            return Err(Box::new(packet));
        }
        let mut dropped = 0;
        while self.packets.len() >= limits.packets || self.octets + cost > limits.octets {
            let Some(oldest) = self.packets.pop_front() else {
                break;
            };
            self.octets -= self::cost(&oldest);
            dropped += 1;
        }
        self.octets += cost;
        self.packets.push_back(packet);
        Ok(dropped)
    }

    /// Packets, oldest first, and waiters in the order they came.
    pub(super) fn into_parts(self) -> (Vec<Packet>, Vec<W>) {
        (self.packets.into(), self.waiters)
    }
}

/// What a waiting packet costs in octets: its own memory too, or a flood of small ones would go uncounted.
fn cost(packet: &Packet) -> usize {
    packet.len() + size_of::<Packet>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Packet {
        Packet::from_bytes(vec![7; len].into())
    }

    #[test]
    fn the_oldest_packets_make_room() {
        let mut pending = Pending::<()>::new();
        let limits = QueueLimits {
            packets: 3,
            octets: 3 * size_of::<Packet>() + 1000,
        };
        for len in [1, 2, 3] {
            assert_eq!(pending.push_packet(packet(len), limits).ok(), Some(0));
        }
        // By number, then by octets too.
        assert_eq!(pending.push_packet(packet(4), limits).ok(), Some(1));
        assert_eq!(pending.push_packet(packet(993), limits).ok(), Some(1));
        assert_eq!(pending.push_packet(packet(1000), limits).ok(), Some(3));
        let too_long = packet(1001 + 2 * size_of::<Packet>());
        assert!(pending.push_packet(too_long, limits).is_err());
        assert_eq!(pending.octets(), cost(&packet(1000)));
        let (packets, _) = pending.into_parts();
        let lens: Vec<_> = packets.iter().map(Packet::len).collect();
        assert_eq!(lens, [1000]);
    }

    #[test]
    fn waiters_come_back_when_there_are_too_many() {
        let mut pending = Pending::new();
        assert_eq!(pending.push_waiter('a', 2), Ok(()));
        assert_eq!(pending.push_waiter('b', 2), Ok(()));
        assert_eq!(pending.push_waiter('c', 2), Err('c'));
        assert_eq!(pending.into_parts().1, ['a', 'b']);
    }
}
