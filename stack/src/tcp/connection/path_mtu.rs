//! How large segments are: what the way out, ICMP and the peer permit, and what probes have shown to pass.
//!
//! Owns the join of the three and the conduct of probes: when one may go, and what its loss or arrival and a black hole
//! mean to the rest of the connection. The search itself is `send/mtu_search`'s.
//! RFC 9293 3.7.1, RFC 1191 and RFC 8201 (ICMP), RFC 4821 (probes); where that leaves freedom, as Linux (`tcp_mtu_probe`).

use crate::tcp::config::MtuProbing;
use crate::tcp::connection::Connection;
use crate::tcp::connection::negotiated::TCP_HEADER_LEN;
use crate::tcp::connection::output::{MIN_SEGMENT, Stretch};
use crate::tcp::connection::state::{Lifecycle, SendHalf};
use crate::tcp::connection::timers::Timer;
use crate::tcp::send::MtuSearch;
use crate::tcp::send::mtu_search::SearchBounds;
use crate::tcp::{Transmit, TransmitLimits};
use crate::time::Instant;

/// What to do about a probe of the path's MTU.
#[derive(Debug)]
pub(super) enum MtuProbe {
    /// Nothing: other data goes its way.
    None,
    /// New data waits until the window has room for the probe, which the ACKs of what is in flight will make.
    Wait,
    /// It goes out.
    Send(Transmit),
}

impl Connection {
    /// Takes what the way out says of the path; a changed MTU changes the segment size of all that follows, and
    /// retransmissions are cut anew.
    pub(super) fn set_path(&mut self, limits: &TransmitLimits) {
        let (mtu, ip) = (limits.path_mtu as u32, limits.ip_header_len as u16);
        if (mtu, ip) != (self.path_mtu, self.ip_header_len) {
            self.path_mtu = mtu;
            self.ip_header_len = ip;
            self.update_mss();
        }
    }

    /// The path carries less than was sent: what is in flight and larger is lost for certain, but not by congestion (RFC
    /// 1191 6.4, RFC 8201 5.4), so it goes out again at once in smaller segments, with the window as it is.
    pub(super) fn shrink_path(&mut self, now: Instant, mtu: usize) {
        if mtu as u64 >= u64::from(self.path_mtu) {
            return;
        }
        self.path_mtu = mtu as u32;
        self.update_mss();
        if let Lifecycle::Opening(_) = self.lifecycle {
            return; // a SYN fits any path
        }
        let snd_nxt = self.window.snd_nxt;
        if self
            .recovery
            .on_path_shrunk(snd_nxt, self.mss, &mut self.board)
        {
            self.restart_retransmission_timer(now);
            self.dirty = true;
        }
    }

    /// Derives the segment size from the path, what was negotiated and what probes have shown.
    pub(super) fn update_mss(&mut self) {
        let mut mss = self.permitted_mss();
        let headers = self.headers_len();
        if let Some(search) = &mut self.mtu_search {
            search.set_limit(mss + headers);
            mss = search.low().saturating_sub(headers).clamp(1, mss);
        }
        self.forget_finished_search();
        if mss != self.mss {
            self.mss = mss;
            self.congestion.set_mss(mss as usize);
        }
    }

    /// Data octets per segment as far as the path is believed to carry what its interface and ICMP say.
    fn permitted_mss(&self) -> u32 {
        let ip_header_len = usize::from(self.ip_header_len);
        let ip_options_len = ip_header_len.saturating_sub(self.tuple.ip_header_len());
        let mut mss =
            self.negotiated
                .effective_mss(self.path_mtu as usize, ip_header_len, ip_options_len);
        if let Some(max) = self.options.capped_mss(&self.config) {
            let most = usize::from(max).saturating_sub(self.negotiated.option_len());
            mss = mss.min(most.max(1));
        }
        // Against floods of tiny packets, whatever ICMP says (Linux: tcp_min_snd_mss).
        let least = usize::from(self.config.min_mss).saturating_sub(self.negotiated.option_len());
        mss.max(least).max(MIN_SEGMENT) as u32
    }

    /// Octets of a packet with data that are not data.
    fn headers_len(&self) -> u32 {
        u32::from(self.ip_header_len) + (TCP_HEADER_LEN + self.negotiated.option_len()) as u32
    }

    /// Begins with small segments and probes for larger ones, if the configuration says so.
    pub(super) fn begin_mtu_search(&mut self) {
        if self.config.mtu_probing == MtuProbing::Always {
            let bounds = self.search_bounds();
            let interval = self.config.mtu_probe_interval;
            self.mtu_search = Some(Box::new(MtuSearch::from_base(bounds, interval)));
        }
    }

    fn search_bounds(&self) -> SearchBounds {
        let headers = self.headers_len();
        // No IPv6 path carries less (RFC 8200 5; RFC 4821 7.7).
        let least = if self.tuple.remote.is_ipv4() { 0 } else { 1280 };
        let min_mss = self.config.mtu_probe_floor.max(self.config.min_mss);
        SearchBounds {
            base: (u32::from(self.config.mtu_probe_base) + headers).max(least),
            floor: (u32::from(min_mss) + headers).max(least),
            limit: self.permitted_mss() + headers,
        }
    }

    /// A search that has found the path to carry all it may has nothing more to say: the next black hole begins another.
    fn forget_finished_search(&mut self) {
        let finished = |search: &MtuSearch| search.is_complete() && search.probe().is_none();
        if self.config.mtu_probing != MtuProbing::Always
            && self.mtu_search.as_deref().is_some_and(finished)
        {
            self.mtu_search = None;
        }
    }

    /// A probe, if one is due and its loss would be noticed at once (RFC 4821 7.4; Linux's conditions).
    pub(super) fn transmit_mtu_probe(&mut self, now: Instant) -> MtuProbe {
        let headers = self.headers_len();
        let size = self.mtu_search.as_mut().and_then(|search| search.due(now));
        let Some(size) = size else {
            return MtuProbe::None;
        };
        let (mss, len) = (self.mss as usize, size.saturating_sub(headers) as usize);
        // Enough must follow it for duplicate ACKs to tell its loss.
        let needed = len + (self.config.duplicate_ack_threshold as usize + 1) * mss;
        let fin = usize::from(self.lifecycle.send_half() == Some(SendHalf::FinQueued));
        let cwnd = self.congestion.cwnd();
        let undisturbed = !self.recovery.is_active()
            && self.board.lost() == 0
            && !self.board.has_sacked()
            && self.recovery.pipe(&self.board, self.mss) == self.board.pipe()
            && self.sack_option_len() == 0
            && !self.is_sending_urgent();
        if !undisturbed
            || len <= mss
            || cwnd < needed.max(MIN_WINDOW * mss)
            || self.unsent() - fin < needed
            || (self.window.snd_wnd as usize) < needed
            || self.is_held_back_by_pacing(now)
        {
            return MtuProbe::None;
        }
        if self.window.usable() < needed || self.congestion_room() < len {
            return if self.board.is_empty() {
                MtuProbe::None
            } else {
                MtuProbe::Wait
            };
        }
        self.timers.clear(Timer::Persist);
        self.pending.window_probe = false;
        let (start, end) = (self.window.snd_nxt, self.window.snd_nxt + len as u32);
        let limited = len >= self.congestion_room();
        let stretch = Stretch {
            start,
            end,
            mss: len,
            retransmission: false,
        };
        let transmit = self.send_stretch(now, stretch);
        self.note_window_use(now, limited);
        if let Some(search) = &mut self.mtu_search {
            search.on_sent(start, end, size);
        }
        self.stats.mtu_probes += 1;
        MtuProbe::Send(transmit)
    }

    /// SND.UNA has advanced: perhaps past a probe.
    pub(super) fn check_mtu_probe(&mut self, now: Instant) {
        let una = self.window.snd_una;
        if let Some(search) = &mut self.mtu_search
            && search.on_acknowledged(now, una)
        {
            tracing::debug!(mtu = search.low(), "a larger segment passes");
            self.update_mss();
        }
    }

    /// A probe was lost, and nothing else.
    pub(super) fn mtu_probe_lost(&mut self, now: Instant) {
        let wait = self.congestion_interval();
        if let Some(search) = &mut self.mtu_search {
            search.on_lost(now, wait);
            tracing::debug!(
                low = search.low(),
                high = search.high(),
                "a larger segment does not pass"
            );
        }
    }

    /// The retransmission timer has fired: what that says of a probe, and of segments that never arrive.
    pub(super) fn note_timeout_of_path(&mut self, now: Instant, repeated: bool) {
        let wait = self.congestion_interval();
        if let Some(search) = &mut self.mtu_search {
            search.on_timeout(now, wait);
        }
        // Something else is the matter if the peer's window is closed, or ICMP has said what (RFC 4821 7.7).
        if repeated && self.window.snd_wnd > 0 && self.soft_error.is_none() {
            self.suspect_black_hole(now);
        }
    }

    /// Nothing has arrived for several timeouts, so perhaps nothing of this size does, and the router that drops it does not
    /// say so, or is not heard (RFC 2923 2.1, RFC 4821 7.7).
    fn suspect_black_hole(&mut self, now: Instant) {
        if self.config.mtu_probing == MtuProbing::Off {
            return;
        }
        let (bounds, interval) = (self.search_bounds(), self.config.mtu_probe_interval);
        let search = self.mtu_search.as_deref().copied();
        let mut search = search.unwrap_or_else(|| MtuSearch::from_limit(bounds, interval));
        // What would still be one segment is not lost for its size.
        let reduced = search.reduced().saturating_sub(self.headers_len());
        if search.reduced() >= search.low() || self.board.outstanding() <= reduced {
            return;
        }
        search.on_black_hole(now);
        tracing::debug!(mtu = search.low(), "perhaps a black hole");
        self.mtu_search = Some(Box::new(search));
        self.stats.black_holes += 1;
        self.update_mss();
    }

    /// A series of timeouts was spurious: the segments have arrived, large as they were.
    pub(super) fn undo_black_hole(&mut self) {
        if let Some(search) = &mut self.mtu_search
            && search.undo_black_hole()
        {
            tracing::debug!(mtu = search.low(), "no black hole");
            self.update_mss();
        }
    }

    /// About as long as congestion leaves between two losses: a round trip for each segment of the window (RFC 4821 7.6.2).
    fn congestion_interval(&self) -> std::time::Duration {
        let segments = self.congestion.cwnd() / self.mss.max(1) as usize;
        let segments = u32::try_from(segments).unwrap_or(u32::MAX).max(1);
        let round_trip = self.rtt.smoothed().unwrap_or(self.config.initial_rto);
        round_trip.saturating_mul(segments)
    }
}

/// Segments that the congestion window must hold for a probe (Linux).
const MIN_WINDOW: usize = 11;
