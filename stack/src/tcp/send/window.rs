//! The peer's window and the decision whether a segment may go out now.
//!
//! Owns SND.UNA, SND.NXT, SND.WND, SND.WL1 and SND.WL2 (RFC 9293 3.3.1), the silly-window rule (RFC 9293 3.8.6.2.1,
//! MUST-38) and Nagle's algorithm with Minshall's change, as Linux has it (RFC 9293 3.7.4). What the path permits is
//! the congestion controller's concern.

use crate::tcp::SeqNum;

/// The send sequence variables that concern the peer's window.
#[derive(Clone, Copy, Debug)]
pub struct SendWindow {
    /// SND.UNA: the oldest octet not acknowledged.
    pub snd_una: SeqNum,
    /// SND.NXT: the next octet to send for the first time.
    pub snd_nxt: SeqNum,
    /// SND.WND in octets, scaled.
    pub snd_wnd: u32,
    /// Largest SND.WND seen (Max(SND.WND)).
    pub max_window: u32,
    wl1: SeqNum,
    wl2: SeqNum,
    shift: u8,
    /// End of the last segment sent that was shorter than the MSS (Minshall's SND.SML).
    last_small: SeqNum,
}

/// What is at hand to be put into the next new segment.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Octets written and not sent.
    pub available: usize,
    /// Effective MSS.
    pub mss: usize,
    /// The application has closed: what is left goes out with a FIN.
    pub closing: bool,
    /// Nagle is off (`TCP_NODELAY`).
    pub nodelay: bool,
}

/// What the window says about sending new data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowVerdict {
    /// Up to this many octets may go, in segments of the MSS; only the last may be shorter.
    Send(usize),
    /// Not now: an ACK or more data from the application will change it.
    Wait,
    /// Not now, and the peer's window is the reason: if nothing is in flight, the persist timer must ask.
    WindowClosed,
}

impl SendWindow {
    /// Before anything was sent: SND.UNA and SND.NXT at `iss`.
    pub const fn new(iss: SeqNum) -> Self {
        Self {
            snd_una: iss,
            snd_nxt: iss,
            snd_wnd: 0,
            max_window: 0,
            wl1: iss,
            wl2: iss,
            shift: 0,
            last_small: iss,
        }
    }

    /// Takes the window of a segment with SYN, which is never scaled (RFC 7323 2.2), and the shift for later ones.
    pub fn initialize(&mut self, sequence: SeqNum, acknowledgment: SeqNum, window: u16, shift: u8) {
        self.snd_wnd = u32::from(window);
        self.max_window = self.snd_wnd;
        self.wl1 = sequence;
        self.wl2 = acknowledgment;
        self.shift = shift;
    }

    /// Updates SND.WND if the segment is newer than the one that set it last (RFC 9293 3.10.7.4); says
    /// whether the window changed.
    pub fn update(&mut self, sequence: SeqNum, acknowledgment: SeqNum, window: u16) -> bool {
        // An ACK of new data is newer whatever its sequence number: it may have come with a retransmission (as Linux).
        let newer = self.snd_una.before(acknowledgment)
            || self.wl1.before(sequence)
            || (self.wl1 == sequence && self.wl2.at_or_before(acknowledgment));
        if !newer {
            return false;
        }
        let scaled = u32::from(window) << self.shift;
        let changed = scaled != self.snd_wnd;
        self.snd_wnd = scaled;
        self.max_window = self.max_window.max(scaled);
        self.wl1 = sequence;
        self.wl2 = acknowledgment;
        changed
    }

    /// The window a segment carries, scaled.
    pub const fn scaled(&self, window: u16) -> u32 {
        (window as u32) << self.shift
    }

    /// Right edge of the peer's window.
    pub fn right_edge(&self) -> SeqNum {
        self.snd_una + self.snd_wnd
    }

    /// Octets in sequence space sent and not acknowledged.
    pub fn in_flight(&self) -> u32 {
        self.snd_nxt - self.snd_una
    }

    /// Octets that may be sent from SND.NXT on: the usable window, 0 when the peer shrank it (MUST-34 of RFC 9293
    /// 3.8.6: a sender is robust against that).
    pub fn usable(&self) -> usize {
        self.right_edge().saturating_since(self.snd_nxt) as usize
    }

    /// How much new data may go now, as far as the peer's window, Nagle and silly-window avoidance are concerned.
    ///
    /// RFC 9293 3.8.6.2.1: send a full segment; or all there is, when Nagle permits; or half the largest window the peer
    /// ever offered. Otherwise wait.
    pub fn verdict(&self, candidate: Candidate) -> WindowVerdict {
        let Candidate { available, mss, .. } = candidate;
        let usable = self.usable();
        let sendable = available.min(usable);
        if sendable == 0 {
            return if available > 0 {
                WindowVerdict::WindowClosed
            } else {
                WindowVerdict::Wait
            };
        }
        let full = sendable - sendable % mss;
        let rest = sendable - full;
        if rest == 0 {
            return WindowVerdict::Send(full);
        }
        let rest_may_go = if sendable == available {
            // The last segment of what was written: Nagle decides, unless a FIN goes with it.
            candidate.closing || candidate.nodelay || !self.nagle_holds()
        } else {
            // The window cuts the segment short.
            full == 0 && 2 * sendable >= self.max_window as usize
        };
        if rest_may_go {
            WindowVerdict::Send(sendable)
        } else if full > 0 {
            WindowVerdict::Send(full)
        } else if sendable == available {
            WindowVerdict::Wait
        } else {
            WindowVerdict::WindowClosed
        }
    }

    /// Minshall's change to Nagle's rule: a small segment waits only while another small one is unacknowledged.
    fn nagle_holds(&self) -> bool {
        self.last_small.after(self.snd_una) && self.last_small.at_or_before(self.snd_nxt)
    }

    /// New data or a FIN went out up to `end`.
    pub fn on_sent(&mut self, end: SeqNum, len: usize, mss: usize) {
        self.snd_nxt = self.snd_nxt.max(end);
        if !len.is_multiple_of(mss) {
            self.last_small = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(una: u32, nxt: u32, wnd: u32) -> SendWindow {
        let mut window = SendWindow::new(SeqNum(una));
        window.snd_nxt = SeqNum(nxt);
        window.snd_wnd = wnd;
        window.max_window = wnd.max(20_000);
        window
    }

    fn data(available: usize) -> Candidate {
        Candidate {
            available,
            mss: 1000,
            closing: false,
            nodelay: false,
        }
    }

    #[test]
    fn sender_avoids_silly_windows() {
        // RFC 9293 3.8.6.2.1 (MUST-38).
        let cases = [
            (
                "a full segment goes",
                1000,
                20_000,
                WindowVerdict::Send(1000),
            ),
            (
                "full segments and the idle rest go",
                2500,
                20_000,
                WindowVerdict::Send(2500),
            ),
            (
                "nothing in flight: all there is goes",
                10,
                20_000,
                WindowVerdict::Send(10),
            ),
            (
                "the window cuts: full segments only",
                5000,
                2500,
                WindowVerdict::Send(2000),
            ),
            (
                "the window cuts below a segment",
                5000,
                900,
                WindowVerdict::WindowClosed,
            ),
            ("zero window", 5000, 0, WindowVerdict::WindowClosed),
            ("nothing to send", 0, 20_000, WindowVerdict::Wait),
        ];
        for (what, available, wnd, expected) in cases {
            assert_eq!(
                window(0, 0, wnd).verdict(data(available)),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn half_the_largest_window_may_go_in_a_short_segment() {
        let mut small = window(0, 0, 600);
        small.max_window = 1200;
        assert_eq!(small.verdict(data(5000)), WindowVerdict::Send(600));
        small.max_window = 1201;
        assert_eq!(small.verdict(data(5000)), WindowVerdict::WindowClosed);
    }

    #[test]
    fn nagle_holds_a_second_small_segment() {
        // RFC 9293 3.7.4 with Minshall's change: full segments in flight hold nothing back.
        let mut window = window(0, 0, 20_000);
        window.on_sent(SeqNum(2000), 2000, 1000);
        assert_eq!(window.verdict(data(10)), WindowVerdict::Send(10));
        window.on_sent(SeqNum(2010), 10, 1000);
        assert_eq!(window.verdict(data(10)), WindowVerdict::Wait);
        assert_eq!(window.verdict(data(1010)), WindowVerdict::Send(1000));
        let off = Candidate {
            nodelay: true,
            ..data(10)
        };
        assert_eq!(window.verdict(off), WindowVerdict::Send(10));
        let closing = Candidate {
            closing: true,
            ..data(10)
        };
        assert_eq!(window.verdict(closing), WindowVerdict::Send(10));
        window.snd_una = SeqNum(2010);
        assert_eq!(window.verdict(data(10)), WindowVerdict::Send(10));
    }

    #[test]
    fn old_segments_do_not_set_the_window() {
        // RFC 9293 3.10.7.4: SND.WL1 < SEG.SEQ, or equal and SND.WL2 =< SEG.ACK; or else an ACK of new data.
        let mut window = SendWindow::new(SeqNum(10));
        window.initialize(SeqNum(100), SeqNum(10), 1000, 2);
        assert_eq!(window.snd_wnd, 1000, "a SYN's window is not scaled");
        for (seq, ack, taken) in [
            (101, 10, true),
            (100, 10, false),
            (101, 9, false),
            (90, 11, true),
            (90, 10, false),
            (101, 10, true),
            (102, 8, true),
        ] {
            window.snd_wnd = 0;
            assert_eq!(
                window.update(SeqNum(seq), SeqNum(ack), 50),
                taken,
                "{seq} {ack}"
            );
            assert_eq!(window.snd_wnd, if taken { 200 } else { 0 });
        }
    }

    #[test]
    fn shrunken_window_leaves_nothing_usable() {
        // RFC 9293 3.8.6 (MUST-34): the usable window may become negative. RFC 9293 SHLD-15.
        assert_eq!(window(0, 5000, 2000).usable(), 0);
        assert_eq!(
            window(0, 5000, 2000).verdict(data(100)),
            WindowVerdict::WindowClosed
        );
    }
}
