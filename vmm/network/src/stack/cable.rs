//! The stack as what is at the other end of the guest's cable: frames one way and the other, each when its line is free.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event};
use rustix::time::Timespec;
use virtio::{HEADER, Link, Offload, Reader, Received, Writer};

use super::{BATCH, CLOCK, Flow, LINE, SERVERS, Stack};
use crate::{link, wire};

impl Link for Stack {
    fn fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn ready(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if epoll::wait(&self.watch, spare_capacity(&mut events), Some(&now)).is_err() {
            return;
        }
        for event in &events {
            match event.data.u64() {
                CLOCK => self.tick(),
                LINE => self.line_free(),
                SERVERS => self.hear_of_servers(),
                mark => self.event(usize::try_from(mark).unwrap_or(usize::MAX), event.flags),
            }
        }
    }

    fn may_transmit(&mut self) -> bool {
        if !self.deliver_held() {
            return false;
        }
        let wait = self
            .outward
            .as_ref()
            .and_then(|pace| pace.wait((self.now)()));
        self.await_line(wait)
    }

    fn transmit(&mut self, _: [u8; HEADER], mut frame: Reader<'_>) {
        if let Some(pace) = &mut self.outward {
            pace.pass((self.now)(), frame.left());
        }
        let length = u64::try_from(frame.left()).unwrap_or(0);
        let sent = &mut self.journal.counts.sent;
        *sent = sent.saturating_add(length);
        let Some((mac, kind)) = wire::ethernet(&mut frame) else {
            return;
        };
        match kind {
            wire::ARP => {
                if let Some(answer) = link::arp(&mut frame, |address| self.is_on_link(address)) {
                    self.say(answer, None);
                }
            }
            wire::IPV4 => {
                let _ = wire::ipv4(&mut frame).and_then(|ip| self.packet(mac, ip, frame));
            }
            wire::IPV6 => {
                let _ = wire::ipv6(&mut frame).and_then(|ip| self.packet(mac, ip, frame));
            }
            _ => {}
        }
    }

    fn next(&mut self, _: Offload) -> Option<(usize, usize)> {
        let wait = self
            .inward
            .as_ref()
            .and_then(|pace| pace.wait((self.now)()));
        if !self.await_line(wait) {
            return None;
        }
        for _ in 0..BATCH {
            if let Some(small) = self.small.front() {
                return Some((small.bytes.len(), small.bytes.len()));
            }
            let number = self.flows.first()?;
            if let Some((_, Flow::Tcp(connection))) = self.flows.get(number) {
                return Some(connection.bounds());
            }
            let more = self.collect(number);
            self.flows.dequeue();
            if more.is_some() {
                self.flows.enqueue(number);
            }
        }
        // Whoever sends what comes to nothing does not keep all others waiting.
        self.await_line(Some((self.now)()));
        None
    }

    fn receive(&mut self, room: &mut Writer<'_>, offload: Offload) -> Option<Received> {
        let received = self.give(room, offload)?;
        if let Some(pace) = &mut self.inward {
            pace.pass((self.now)(), received.length);
        }
        let counted = &mut self.journal.counts.received;
        *counted = counted.saturating_add(u64::try_from(received.length).unwrap_or(0));
        Some(received)
    }

    fn reset(&mut self) {
        for number in self.flows.numbers() {
            let own = matches!(
                self.flows.get(number),
                Some((_, Flow::Port(_) | Flow::Neighbours))
            );
            if !own {
                self.end(number);
            }
        }
        self.held = None;
        self.small.clear();
        self.small_bytes = 0;
    }
}
