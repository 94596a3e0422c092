//! First come, first served.

use std::collections::VecDeque;

use super::Scheduler;

/// Messages go out in the order in which they came.
#[derive(Debug, Default)]
pub struct FirstCome {
    /// The stream of each waiting message.
    order: VecDeque<u16>,
}

impl Scheduler for FirstCome {
    fn on_enqueued(&mut self, stream: u16, _waiting: usize) {
        self.order.push_back(stream);
    }

    fn pick(&mut self) -> Option<u16> {
        self.order.pop_front()
    }

    fn on_taken(&mut self, _stream: u16, _waiting: usize) {}

    fn on_cleared_from(&mut self, first: u16) {
        self.order.retain(|stream| *stream < first);
    }

    fn shrink(&mut self) {
        self.order = VecDeque::new();
    }
}
