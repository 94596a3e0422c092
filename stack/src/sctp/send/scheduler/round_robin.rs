//! Round robin by message.

use std::collections::VecDeque;

use super::Scheduler;

/// Each stream with messages sends one of them in its turn, however long.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// Streams with waiting messages, each once, the next one first.
    round: VecDeque<u16>,
}

impl Scheduler for RoundRobin {
    fn on_enqueued(&mut self, stream: u16, waiting: usize) {
        if waiting == 0 {
            self.round.push_back(stream);
        }
    }

    fn pick(&mut self) -> Option<u16> {
        self.round.pop_front()
    }

    fn on_taken(&mut self, stream: u16, waiting: usize) {
        if waiting > 0 {
            self.round.push_back(stream);
        }
    }

    fn on_cleared_from(&mut self, first: u16) {
        self.round.retain(|stream| *stream < first);
    }

    fn shrink(&mut self) {
        self.round = VecDeque::new();
    }
}
