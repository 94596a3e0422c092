//! Pacing and the delivery rate of a connection that has a use for them: its controller paces, or its user set a maximum.
//!
//! Owns when the two are kept at all, and what the congestion controller learns from them. Everything is in one box:
//! connections without pacing have a null pointer for it.

use crate::tcp::SeqNum;
use crate::tcp::config::CongestionControl;
use crate::tcp::connection::Connection;
use crate::tcp::send::delivered::{Delivered, Sent};
use crate::tcp::send::delivery_rate::{Arrival, DeliveryRate, Departure};
use crate::tcp::send::pacing::Pacer;
use crate::tcp::send::recovery::AckOutcome;
use crate::time::Instant;
use crate::transport::congestion::{DeliverySample, RateSample};

/// What only a paced connection has.
#[derive(Debug, Default)]
pub(super) struct Paced {
    pub(super) pacer: Pacer,
    pub(super) delivery: DeliveryRate,
    /// The user's maximum, in octets per second.
    max_rate: Option<u64>,
    /// The rate to tell of, and whether it is the application's.
    measured: Option<(u64, bool)>,
}

impl Paced {
    /// Keeps the latest rate of the path. One that the application's want of data has kept low says less than the one
    /// before, unless it is higher (as Linux's `tcp_rate_gen`).
    fn keep(&mut self, sample: RateSample) {
        let (rate, app_limited) = (sample.delivery_rate, sample.app_limited);
        let before = self.measured.map_or(0, |(rate, _)| rate);
        if rate > 0 && (!app_limited || rate >= before) {
            self.measured = Some((rate, app_limited));
        }
    }
}

impl Connection {
    /// Changes the congestion controller (Linux's `TCP_CONGESTION`). The window stays.
    pub fn set_congestion_control(&mut self, congestion_control: CongestionControl) {
        let own = self.options.congestion_control;
        if own.unwrap_or(self.config.congestion_control) != congestion_control {
            self.options_mut().congestion_control = Some(congestion_control);
            self.replace_controller();
            self.dirty = true;
        }
    }

    /// Goes on with the controller that the options name, and the window of the one before.
    pub(super) fn replace_controller(&mut self) {
        let (cwnd, ssthresh) = (self.congestion.cwnd(), self.congestion.ssthresh());
        self.congestion = self.new_controller();
        self.congestion.inherit(cwnd, ssthresh);
        self.settle_pacing();
    }

    /// Sends no faster than so many octets per second, headers not counted (Linux's `SO_MAX_PACING_RATE`); `None` leaves it to
    /// the congestion controller.
    pub fn set_max_pacing_rate(&mut self, rate: Option<u64>) {
        if let Some(paced) = &mut self.paced {
            paced.max_rate = rate;
        } else if rate.is_some() {
            self.paced = Some(Box::new(Paced {
                max_rate: rate,
                ..Paced::default()
            }));
        }
        self.settle_pacing();
        self.dirty = true;
    }

    /// Octets per second at which data leaves now; `None` when it leaves as ACKs let it.
    pub fn pacing_rate(&self) -> Option<u64> {
        self.paced.as_ref()?.pacer.rate()
    }

    /// Octets per second that the path has delivered, where that is measured, and whether they were all there was to send.
    pub(super) fn delivery_rate(&self) -> Option<(u64, bool)> {
        self.paced.as_ref()?.measured
    }

    /// Takes the rates of the controller and the user, and forgets about pacing if there are none.
    pub(super) fn settle_pacing(&mut self) {
        let wanted = self.congestion.pacing_rate();
        let max = self.paced.as_ref().and_then(|paced| paced.max_rate);
        let rate = match (wanted, max) {
            (Some(wanted), Some(max)) => Some(wanted.min(max)),
            (wanted, max) => wanted.or(max),
        };
        if rate.is_none() {
            self.paced = None;
            return;
        }
        let paced = self.paced.get_or_insert_default();
        paced.pacer.set_rate(rate);
    }

    /// Whether data has to wait for its time.
    #[inline]
    pub(super) fn is_held_back_by_pacing(&mut self, now: Instant) -> bool {
        let paced = self.paced.as_mut();
        paced.is_some_and(|paced| paced.pacer.holds_back(now))
    }

    /// Data up to `end` has left.
    #[inline]
    pub(super) fn note_departure(&mut self, now: Instant, end: SeqNum, octets: u32, again: bool) {
        let Some(paced) = &mut self.paced else {
            return;
        };
        paced.pacer.on_sent(now, octets as usize);
        paced.delivery.on_sent(Departure {
            sent: Sent { at: now, end },
            octets,
            in_flight: self.recovery.pipe(&self.board, self.mss),
            retransmission: again,
        });
    }

    /// Everything was sent that there is: the rate will be the application's, if the window has room (4.5.2.3.4).
    pub(super) fn note_want_of_data(&mut self) {
        if self.unsent() > 0 || self.board.waiting() > 0 {
            return;
        }
        let pipe = self.recovery.pipe(&self.board, self.mss);
        if let Some(paced) = &mut self.paced
            && (pipe as usize) < self.congestion.cwnd()
        {
            paced.delivery.note_app_limited(pipe);
        }
    }

    /// Tells the controller what an ACK delivered, in whatever state of recovery.
    pub(super) fn note_delivery(&mut self, now: Instant, delivered: &Delivered) {
        let Some(paced) = &mut self.paced else {
            return;
        };
        let rate = paced.delivery.on_ack(&Arrival {
            now,
            octets: delivered.bytes,
            newest: delivered.newest,
            snd_una: self.window.snd_una,
            min_rtt: self.recovery.rack.min_rtt(),
        });
        if let Some(rate) = rate {
            paced.keep(rate);
        }
        if self.congestion.pacing_rate().is_none() {
            return;
        }
        self.congestion.on_delivery(&DeliverySample {
            now,
            delivered: paced.delivery.delivered(),
            newly_acked: u64::from(delivered.bytes),
            in_flight: u64::from(self.recovery.pipe(&self.board, self.mss)),
            cwnd_limited: self.window_use.is_limited(),
            recovering: self.recovery.is_active(),
            rate,
        });
        self.settle_pacing();
    }

    /// Tells the controller what was lost.
    pub(super) fn note_losses(&mut self, outcome: &AckOutcome) {
        if let Some(paced) = &mut self.paced
            && let Some(sample) = paced
                .delivery
                .on_lost(outcome.newly_lost, outcome.newest_lost)
        {
            self.congestion.on_loss(&sample);
        }
    }
}
