//! Questions for names in the stack: the gateway is asked, and asks whom the host would ask, one after the other until one answers.

use super::{Flow, Stack};
use crate::datagram::{self, Content, Datagrams, Way};
use crate::flows::Key;
use crate::journal::Denied;
use crate::link::Unreachable;
use crate::servers::Turn;
use crate::{dns, wire};

impl Stack {
    /// The guest asks the gateway something.
    pub(super) fn ask(&mut self, key: &Key, query: &[u8]) -> Option<()> {
        if let Some(answer) = self.name_of_neighbour(query) {
            return self.say_datagram(key, &answer);
        }
        let question = dns::question(query);
        if self.egress.is_restricted() {
            let asked = question.as_ref()?;
            if !self.egress.allows_name(&asked.name) {
                let answer = dns::refusal(query, asked)?;
                self.deny(Denied::Name(asked.name.clone()));
                return self.say_datagram(key, &answer);
            }
        }
        self.servers.look((self.now)());
        let known = self.flows.find(key);
        let Some(number) = known.or_else(|| self.open_names(key)) else {
            return self.say_lost(key, query.len(), Unreachable::Port);
        };
        let (_, Flow::Datagrams(flow)) = self.flows.get(number)? else {
            return None;
        };
        flow.idle = 0;
        if let Way::Own(socket) = &flow.way {
            datagram::put(socket, query, None);
        }
        self.servers.keep(number, query, question);
        if self.servers.count() > 1 {
            self.arm(1);
        }
        Some(())
    }

    /// Makes a flow to the first server, from the one on that answered last, that the host has a way to.
    fn open_names(&mut self, key: &Key) -> Option<usize> {
        self.permit(wire::UDP, key.remote.0, Some(dns::PORT))?;
        if self.flows.is_full() {
            return None;
        }
        let (server, socket) = self.socket_to_server(self.servers.current())?;
        self.watch(&socket, datagram::EVENTS).ok()?;
        let flow = Datagrams {
            way: Way::Own(socket),
            content: Content::Dns(Turn::new(server)),
            idle: 0,
        };
        self.flows_insert(*key, flow)
    }

    fn socket_to_server(&self, from: usize) -> Option<(usize, std::os::fd::OwnedFd)> {
        let count = self.servers.count();
        (0..count).find_map(|step| {
            let place = from.checked_add(step)?.checked_rem(count)?;
            let socket = datagram::open(self.servers.at(place)?, wire::UDP).ok()?;
            Some((place, socket))
        })
    }

    /// Has a server, `from` this one on, asked all that a flow waits for. `None`: there is none to ask.
    fn ask_from(&mut self, number: usize, from: usize) -> Option<()> {
        let (server, socket) = self.socket_to_server(from)?;
        self.watch_for(number, &socket, datagram::EVENTS).ok()?;
        for query in self.servers.unanswered(number) {
            datagram::put(&socket, query, None);
        }
        let (_, Flow::Datagrams(flow)) = self.flows.get(number)? else {
            return None;
        };
        flow.way = Way::Own(socket);
        if let Content::Dns(turn) = &mut flow.content {
            turn.server = server;
        }
        Some(())
    }

    /// Some ticks have passed: a flow that waited for too long asks the next server, if there is another. Whether it waits for that.
    pub(super) fn await_answer(&mut self, number: usize, passed: u32) -> bool {
        let waits = self.servers.count() > 1 && self.servers.unanswered(number).next().is_some();
        if waits
            && let Some((_, Flow::Datagrams(flow))) = self.flows.get(number)
            && let Content::Dns(turn) = &mut flow.content
            && turn.tick(passed)
        {
            let next = turn.server.saturating_add(1);
            let _ = self.ask_from(number, next);
        }
        waits
    }

    /// The server that a flow asks does not want to be asked: the next one is, until none is left.
    pub(super) fn refused(&mut self, number: usize, key: &Key) {
        let count = self.servers.count();
        if let Some((_, Flow::Datagrams(flow))) = self.flows.get(number)
            && let Content::Dns(turn) = &mut flow.content
        {
            let next = turn.server.saturating_add(1);
            if turn.refused(count) && self.ask_from(number, next).is_some() {
                return;
            }
        }
        self.servers.forget(number);
        self.say_lost(key, 0, Unreachable::Port);
    }

    /// A flow's server has answered.
    pub(super) fn answered(&mut self, number: usize, server: usize, answer: &[u8]) {
        self.servers.stay_with(server);
        let query = self.servers.take(number, answer);
        if let Some(question) = query.and_then(|query| query.question) {
            for address in dns::addresses(answer, &question) {
                self.egress.pin(&question.name, address);
            }
        }
    }

    /// The host has said something of name servers: if it asks others now, so do those who wait.
    pub(super) fn hear_of_servers(&mut self) {
        if !self.servers.hear() {
            return;
        }
        for number in self.flows.numbers() {
            if let Some((_, Flow::Datagrams(flow))) = self.flows.get(number)
                && matches!(flow.content, Content::Dns(_))
                && (self.servers.unanswered(number).next().is_none()
                    || self.ask_from(number, 0).is_none())
            {
                self.end(number);
            }
        }
    }
}
