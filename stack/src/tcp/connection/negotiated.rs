//! What the two SYNs settled: segment sizes, window scaling, SACK, timestamps.
//!
//! Owns the rules by which options of a SYN become properties of a connection, for both roles, and the state of the
//! timestamps option (TS.Recent, PAWS, the timestamp clock). It does not build headers beyond the options of a SYN.
//! RFC 9293 3.7.1 (MSS), RFC 7323 (window scale, timestamps, PAWS), RFC 2018 2 (SACK permitted).

use std::net::IpAddr;
use std::time::Duration;

use crate::tcp::config::EcnMode;
use crate::tcp::{Config, Segment, Tuple};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Options, Timestamps};

/// Octets of a TCP header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Octets the timestamps option takes in a segment, padding included (RFC 7323 appendix A).
pub const TIMESTAMPS_LEN: usize = 12;
/// Largest window shift (RFC 7323 2.3); larger ones are used as this.
pub const MAX_WINDOW_SHIFT: u8 = 14;
/// Largest IP packet in octets, whatever an interface's MTU says.
const MAX_PACKET: usize = 65_535;
/// After this much silence TS.Recent is no longer compared with (RFC 7323 5.5): the peer's clock may have wrapped.
const PAWS_IDLE: Duration = Duration::from_secs(24 * 24 * 3600);

/// What this side puts into its SYN or SYN-ACK, before the peer has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The MSS announced: what this side can receive (RFC 9293 3.7.1, MUST-14, MUST-67).
    pub mss: u16,
    /// Window shift this side will apply to what it advertises; `None` does not offer scaling.
    pub window_shift: Option<u8>,
    /// Offer SACK.
    pub sack: bool,
    /// Offer timestamps.
    pub timestamps: bool,
}

impl Offer {
    /// The offer of `config` for a local path that carries `path_mtu` octets, IP header included, to `remote`.
    pub fn new(config: &Config, remote: IpAddr, path_mtu: usize) -> Self {
        Self::capped(config, config.max_mss, remote, path_mtu)
    }

    /// The same with an MSS of at most `max_mss`.
    pub fn capped(config: &Config, max_mss: Option<u16>, remote: IpAddr, path_mtu: usize) -> Self {
        let room = path_mtu
            .min(MAX_PACKET)
            .saturating_sub(ip_header_len(remote) + TCP_HEADER_LEN);
        let room = room.max(usize::from(config.min_mss)) as u16;
        Self {
            mss: max_mss.map_or(room, |max| room.min(max)),
            window_shift: config
                .window_scaling
                .then(|| window_shift_for(config.max_receive_buffer)),
            sack: config.sack,
            timestamps: config.timestamps,
        }
    }

    /// The options of an initial SYN sent at `now`.
    pub fn syn_options(&self, now: Instant, timestamp_offset: u32) -> Options {
        Options {
            mss: Some(self.mss),
            window_scale: self.window_shift,
            sack_permitted: self.sack,
            timestamps: self.timestamps.then(|| Timestamps {
                value: timestamp_clock(now, timestamp_offset),
                echo: 0,
            }),
            ..Options::default()
        }
    }
}

/// Window shifts in use, when both sides offered scaling (RFC 7323 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WindowScale {
    /// Shift applied to the windows this side advertises (Rcv.Wind.Shift).
    pub receive: u8,
    /// Shift applied to the windows the peer advertises (Snd.Wind.Shift).
    pub send: u8,
}

/// What both SYNs settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's MSS, or the default when its SYN named none (RFC 9293 3.7.1, MUST-15, MUST-16).
    pub peer_mss: u16,
    /// The MSS this side announced.
    pub our_mss: u16,
    /// Window shifts, when both offered scaling.
    pub window_scale: Option<WindowScale>,
    /// Both permitted SACK.
    pub sack: bool,
    /// Both sent timestamps.
    pub timestamps: Option<TimestampState>,
    /// Both ends know explicit congestion notification.
    pub ecn: bool,
}

impl Negotiated {
    /// Settles `offer` with the options of the peer's SYN (or SYN-ACK) that arrived at `now`.
    pub fn new(
        config: &Config,
        offer: &Offer,
        remote: IpAddr,
        peer: &Options,
        now: Instant,
        timestamp_offset: u32,
    ) -> Self {
        let default_mss = if remote.is_ipv4() {
            config.default_mss_v4
        } else {
            config.default_mss_v6
        };
        // A peer that says 0 means the default (as Linux); tiny ones are a way to make us send floods of packets.
        let peer_mss = match peer.mss {
            None | Some(0) => default_mss,
            Some(mss) => mss.max(config.min_mss),
        };
        let window_scale = offer
            .window_shift
            .zip(peer.window_scale)
            .map(|(receive, send)| WindowScale {
                receive,
                send: send.min(MAX_WINDOW_SHIFT),
            });
        let timestamps =
            peer.timestamps
                .filter(|_| offer.timestamps)
                .map(|option| TimestampState {
                    recent: option.value,
                    recent_at: now,
                    offset: timestamp_offset,
                });
        Self {
            peer_mss,
            our_mss: offer.mss,
            window_scale,
            sack: offer.sack && peer.sack_permitted,
            timestamps,
            ecn: false,
        }
    }

    /// What holds before the peer has said anything: a placeholder while the SYN is out.
    pub fn pending(config: &Config, offer: &Offer, remote: IpAddr) -> Self {
        Self::new(config, offer, remote, &Options::default(), Instant::ZERO, 0)
    }

    /// The options of a SYN-ACK sent at `now`: only what the peer offered too (RFC 7323 2.2 and 3.2, RFC 2018 2).
    pub fn syn_ack_options(&self, now: Instant) -> Options {
        Options {
            mss: Some(self.our_mss),
            window_scale: self.window_scale.map(|scale| scale.receive),
            sack_permitted: self.sack,
            timestamps: self.timestamps.map(|state| state.option(now)),
            ..Options::default()
        }
    }

    /// Octets of options in every segment with data.
    pub const fn option_len(&self) -> usize {
        if self.timestamps.is_some() {
            TIMESTAMPS_LEN
        } else {
            0
        }
    }

    /// Data octets per segment on a path that carries `path_mtu` octets with an IP header of `ip_header_len`, of which
    /// `ip_options_len` are options, which the peer's MSS does not count either:
    /// Eff.snd.MSS of RFC 9293 3.7.1 (MUST-16). At least 1.
    pub fn effective_mss(
        &self,
        path_mtu: usize,
        ip_header_len: usize,
        ip_options_len: usize,
    ) -> usize {
        let path = path_mtu
            .min(MAX_PACKET)
            .saturating_sub(ip_header_len + TCP_HEADER_LEN);
        usize::from(self.peer_mss)
            .saturating_sub(ip_options_len)
            .min(path)
            .saturating_sub(self.option_len())
            .max(1)
    }

    /// Shift for the windows this side advertises.
    pub fn receive_shift(&self) -> u8 {
        self.window_scale.map_or(0, |scale| scale.receive)
    }

    /// Shift for the windows the peer advertises.
    pub fn send_shift(&self) -> u8 {
        self.window_scale.map_or(0, |scale| scale.send)
    }
}

/// The state of the timestamps option on a connection (RFC 7323 3 to 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampState {
    /// TS.Recent: what the next segment echoes.
    pub recent: u32,
    /// When TS.Recent was taken.
    pub recent_at: Instant,
    /// What this side adds to its clock, so that the stack's uptime does not show (RFC 7323 7.1).
    pub offset: u32,
}

impl TimestampState {
    /// The option for a segment sent at `now`.
    pub fn option(&self, now: Instant) -> Timestamps {
        Timestamps {
            value: timestamp_clock(now, self.offset),
            echo: self.recent,
        }
    }

    /// PAWS (RFC 7323 5.3 R1): the segment's timestamp is older than TS.Recent, and TS.Recent is not outdated itself.
    pub fn is_old(&self, value: u32, now: Instant) -> bool {
        (value.wrapping_sub(self.recent) as i32) < 0
            && now.saturating_since(self.recent_at) < PAWS_IDLE
    }

    /// Takes a segment's timestamp as TS.Recent; the caller has checked SEG.SEQ <= Last.ACK.sent (RFC 7323 4.3).
    pub fn update(&mut self, value: u32, now: Instant) {
        if !self.is_old(value, now) {
            self.recent = value;
            self.recent_at = now;
        }
    }

    /// The round trip that an echoed timestamp tells, in whole milliseconds of our clock; `None` when the echo cannot
    /// be ours (0, or from the future).
    pub fn round_trip(&self, echo: u32, now: Instant) -> Option<Duration> {
        let elapsed = timestamp_clock(now, self.offset).wrapping_sub(echo);
        (echo != 0 && elapsed < 1 << 31).then(|| Duration::from_millis(u64::from(elapsed)))
    }
}

/// This side's timestamp clock: milliseconds, as Linux, plus the connection's offset (RFC 7323 5.4 wants 1 ms to 1 s).
pub fn timestamp_clock(now: Instant, offset: u32) -> u32 {
    (now.as_millis() as u32).wrapping_add(offset)
}

/// The smallest shift that lets 16 bits tell a window of `buffer` octets (RFC 7323 2.2).
pub fn window_shift_for(buffer: usize) -> u8 {
    (0..MAX_WINDOW_SHIFT)
        .find(|shift| (usize::from(u16::MAX) << shift) >= buffer)
        .unwrap_or(MAX_WINDOW_SHIFT)
}

/// Whether a SYN asks for explicit congestion notification, and may have it (RFC 3168 6.1.1). One in a packet that claims to
/// be ECN-capable does not: it went through something that sets bits at random (as Linux).
pub fn is_ecn_request(config: &Config, syn: &Segment) -> bool {
    config.ecn != EcnMode::Off
        && syn.header.flags.contains(Flags::ECE | Flags::CWR)
        && syn.ecn == Ecn::NotEct
}

/// Octets of an IP header without options in front of a segment to `remote`.
pub const fn ip_header_len(remote: IpAddr) -> usize {
    if remote.is_ipv4() { 20 } else { 40 }
}

impl Tuple {
    /// Octets of an IP header without options on this connection.
    pub const fn ip_header_len(&self) -> usize {
        ip_header_len(self.remote.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn announced_mss_is_what_the_path_carries() {
        // RFC 9293 3.7.1: MSS = MTU less the fixed headers, whatever options a segment carries (MUST-67).
        let capped = Config {
            max_mss: Some(1000),
            ..Config::default()
        };
        let plain = Config::default();
        for (config, remote, mtu, mss) in [
            (&plain, V4, 1500, 1460),
            (&plain, V6, 1500, 1440),
            (&plain, V4, 65_535, 65_495),
            (&plain, V4, 100_000, 65_495),
            (&plain, V4, 0, 48),
            (&capped, V4, 1500, 1000),
        ] {
            assert_eq!(Offer::new(config, remote, mtu).mss, mss, "MTU {mtu}");
        }
    }

    #[test]
    fn missing_mss_option_means_the_default() {
        // RFC 9293 3.7.1, MUST-15: 536 for IPv4, 1220 for IPv6.
        let config = Config::default();
        for (remote, option, mss) in [
            (V4, None, 536),
            (V6, None, 1220),
            (V4, Some(0), 536),
            (V4, Some(1), 48),
            (V4, Some(9000), 9000),
        ] {
            let offer = Offer::new(&config, remote, 1500);
            let peer = Options {
                mss: option,
                ..Options::default()
            };
            let settled = Negotiated::new(&config, &offer, remote, &peer, Instant::ZERO, 0);
            assert_eq!(settled.peer_mss, mss, "{remote} {option:?}");
        }
    }

    #[test]
    fn options_hold_only_when_both_sides_sent_them() {
        // RFC 7323 2.2, 3.2; RFC 2018 2.
        let config = Config::default();
        let offer = Offer::new(&config, V4, 1500);
        let peer = Options {
            window_scale: Some(200),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 7, echo: 0 }),
            ..Options::default()
        };
        let settled = Negotiated::new(&config, &offer, V4, &peer, Instant::ZERO, 0);
        assert_eq!(settled.send_shift(), 14, "RFC 7323 2.3: at most 14");
        assert!(settled.sack && settled.timestamps.is_some());
        let nothing = Offer {
            window_shift: None,
            sack: false,
            timestamps: false,
            ..offer
        };
        let settled = Negotiated::new(&config, &nothing, V4, &peer, Instant::ZERO, 0);
        assert!(!settled.sack && settled.timestamps.is_none() && settled.window_scale.is_none());
        let answer = settled.syn_ack_options(Instant::ZERO);
        assert_eq!(answer.window_scale, None);
        assert!(!answer.sack_permitted && answer.timestamps.is_none());
    }

    #[test]
    fn old_timestamps_are_refused_until_the_recent_one_is_outdated() {
        // RFC 7323 5.3 and 5.5.
        let state = TimestampState {
            recent: 10,
            recent_at: Instant::ZERO,
            offset: 0,
        };
        assert!(state.is_old(9, Instant::ZERO));
        assert!(!state.is_old(10, Instant::ZERO));
        assert!(state.is_old(0xffff_fff0, Instant::ZERO));
        assert!(!state.is_old(9, Instant::ZERO + PAWS_IDLE));
    }

    #[test]
    fn window_shift_covers_the_largest_buffer() {
        for (buffer, shift) in [
            (65_535, 0),
            (65_536, 1),
            (6 << 20, 7),
            (32 << 20, 10),
            (usize::MAX, 14),
        ] {
            assert_eq!(window_shift_for(buffer), shift, "{buffer}");
        }
    }

    #[test]
    fn effective_mss_leaves_room_for_options() {
        // RFC 9293 3.7.1: Eff.snd.MSS = min(SendMSS + 20, MMS_S) - TCPhdrsize - IPoptionsize.
        let config = Config::default();
        let offer = Offer::new(&config, V4, 1500);
        let peer = Options {
            mss: Some(1460),
            timestamps: Some(Timestamps::default()),
            ..Options::default()
        };
        let settled = Negotiated::new(&config, &offer, V4, &peer, Instant::ZERO, 0);
        assert_eq!(settled.effective_mss(1500, 20, 0), 1448);
        assert_eq!(settled.effective_mss(9000, 20, 0), 1448);
        assert_eq!(settled.effective_mss(576, 20, 0), 524);
        assert_eq!(settled.effective_mss(9000, 32, 12), 1436);
        assert_eq!(settled.effective_mss(10, 20, 0), 1);
    }
}
