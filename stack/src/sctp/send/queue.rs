//! Messages not sent yet: a queue for each stream, and the message that is being cut into chunks.
//!
//! All messages lie in one pool, linked stream by stream: a million messages on a thousand streams are one allocation
//! that grows by doubling, and each step here costs the same however many wait. Numbers of streams (SSN) live here too;
//! TSNs and everything sent are `outstanding`'s.

use bytes::{Buf, Bytes};
use slab::Slab;

use crate::sctp::message::SendOptions;
use crate::sctp::send::scheduler::{Scheduler, SchedulerKind};
use crate::sctp::serial::Ssn;

/// A message, or what is left to send of it.
#[derive(Debug)]
pub(super) struct Message {
    /// Never empty.
    pub(super) data: Bytes,
    pub(super) options: SendOptions,
}

/// What there is to know of the head before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadSummary {
    /// Octets left of it.
    pub(super) len: usize,
    /// The first fragment is out.
    pub(super) begun: bool,
}

/// The waiting messages.
#[derive(Debug)]
pub(super) struct MessageQueue {
    scheduler: Box<dyn Scheduler>,
    /// All messages, the head too: it stays where it is until it is sent.
    pool: Slab<Link>,
    /// Grows up to the highest stream in use.
    streams: Vec<Stream>,
    head: Option<HeadPlace>,
    octets: usize,
}

/// Where in the pool the head is.
#[derive(Clone, Copy, Debug)]
struct HeadPlace {
    key: u32,
    started: Option<Ssn>,
}

#[derive(Debug)]
struct Link {
    message: Message,
    next: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    first: Option<u32>,
    last: u32,
    waiting: u32,
    next_ssn: Ssn,
}

impl MessageQueue {
    pub(super) fn new(scheduler: SchedulerKind) -> Self {
        Self {
            scheduler: scheduler.build(),
            pool: Slab::new(),
            streams: Vec::new(),
            head: None,
            octets: 0,
        }
    }

    /// Messages of which nothing or not everything was sent.
    pub(super) fn len(&self) -> usize {
        self.pool.len()
    }

    /// Octets not sent yet.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// Appends a message to its stream.
    pub(super) fn push(&mut self, message: Message) {
        let stream_id = message.options.stream;
        let index = usize::from(stream_id);
        if index >= self.streams.len() {
            self.streams.resize(index + 1, Stream::default());
        }
        self.octets += message.data.len();
        let key = self.pool.insert(Link {
            message,
            next: None,
        }) as u32;
        let stream = &mut self.streams[index];
        let last = std::mem::replace(&mut stream.last, key);
        match stream.first {
            None => stream.first = Some(key),
            Some(_) => self.pool[last as usize].next = Some(key),
        }
        let waiting = stream.waiting as usize;
        stream.waiting += 1;
        self.scheduler.on_enqueued(stream_id, waiting);
    }

    /// The message whose turn it is, chosen now if there is none.
    #[inline]
    pub(super) fn head(&mut self) -> Option<HeadSummary> {
        let place = self.place()?;
        Some(HeadSummary {
            len: self.pool.get(place.key as usize)?.message.data.len(),
            begun: place.started.is_some(),
        })
    }

    #[inline]
    fn place(&mut self) -> Option<HeadPlace> {
        if self.head.is_none() {
            let stream = self.scheduler.pick()?;
            let key = self.unlink_first(usize::from(stream))?;
            let waiting = self.streams[usize::from(stream)].waiting as usize;
            self.scheduler.on_taken(stream, waiting);
            self.head = Some(HeadPlace { key, started: None });
        }
        self.head
    }

    /// Cuts `len` octets off the head, or all that is left of it.
    pub(super) fn cut(&mut self, len: usize) -> Option<Fragment> {
        let place = self.place()?;
        let message = &mut self.pool.get_mut(place.key as usize)?.message;
        let begin = place.started.is_none();
        let ssn = match place.started {
            Some(ssn) => ssn,
            None => {
                let stream = &mut self.streams[usize::from(message.options.stream)];
                let ssn = stream.next_ssn;
                if !message.options.unordered {
                    // RFC 9260 6.6: unordered messages do not move it.
                    stream.next_ssn = ssn.next();
                }
                ssn
            }
        };
        if len >= message.data.len() {
            self.head = None;
            let message = self.pool.remove(place.key as usize).message;
            self.octets -= message.data.len();
            self.shrink_if_empty();
            return Some(Fragment {
                len: message.data.len(),
                rest: message.data,
                options: message.options,
                ssn,
                begin,
                end: true,
            });
        }
        let rest = message.data.clone();
        message.data.advance(len);
        let options = message.options;
        self.head = Some(HeadPlace {
            started: Some(ssn),
            ..place
        });
        self.octets -= len;
        Some(Fragment {
            rest,
            len,
            options,
            ssn,
            begin,
            end: false,
        })
    }

    /// Takes a whole message back, in the order in which they would have been sent. The head comes first.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let key = self.place()?.key;
        self.head = None;
        let message = self.pool.remove(key as usize).message;
        self.octets -= message.data.len();
        self.shrink_if_empty();
        Some(message)
    }

    /// Takes back all messages of streams at and beyond `count`: the peer does not have them. What has been begun stays.
    pub(super) fn clear_streams_from(&mut self, count: u16) -> Vec<Message> {
        let mut cleared = Vec::new();
        let pool = &mut self.pool;
        let beyond = |head: &mut HeadPlace| {
            let stream = pool[head.key as usize].message.options.stream;
            head.started.is_none() && stream >= count
        };
        if let Some(head) = self.head.take_if(beyond) {
            cleared.push(self.pool.remove(head.key as usize).message);
        }
        self.scheduler.on_cleared_from(count);
        for index in usize::from(count)..self.streams.len() {
            while let Some(key) = self.unlink_first(index) {
                cleared.push(self.pool.remove(key as usize).message);
            }
        }
        self.octets -= cleared.iter().map(|m| m.data.len()).sum::<usize>();
        self.streams.truncate(usize::from(count));
        cleared
    }

    /// Takes the first message of a stream off its list; it stays in the pool.
    fn unlink_first(&mut self, stream: usize) -> Option<u32> {
        let stream = &mut self.streams[stream];
        let key = stream.first?;
        stream.first = self.pool[key as usize].next;
        stream.waiting -= 1;
        Some(key)
    }

    /// A queue that once was long gives its memory back when it is empty.
    fn shrink_if_empty(&mut self) {
        if self.is_empty() && self.pool.capacity() > KEPT_MESSAGES {
            self.pool = Slab::new();
            self.scheduler.shrink();
        }
    }
}

/// A piece of a message on its way into a chunk.
#[derive(Debug)]
pub(super) struct Fragment {
    /// From the piece's first octet to the last of the message.
    pub(super) rest: Bytes,
    /// The piece is that many octets of it.
    pub(super) len: usize,
    pub(super) options: SendOptions,
    pub(super) ssn: Ssn,
    pub(super) begin: bool,
    pub(super) end: bool,
}

/// Room for messages that an empty queue keeps: reallocating for fewer would cost more than it saves.
const KEPT_MESSAGES: usize = 1024;
