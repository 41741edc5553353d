//! One round: client and upstream take turns in one thread, so that both share a clock and a CPU and the proxy has its own.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::agent::far::FarUpstream;
use crate::beside::Company;
use crate::beside::Deeds;
use crate::client::Client;
use crate::client::Pace;
use crate::client::Target;
use crate::client::Window;
use crate::clock::Clock;
use crate::cpu::Look;
use crate::cpu::Usage;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::running::Watch;
use crate::scenario::Load;
use crate::scenario::Request;
use crate::schedule;
use crate::tally::Tally;
use crate::timeline;
use crate::upstream::Upstream;

/// How long connections may take to open before a round.
const OPEN_NS_MAX: u64 = 10_000_000_000;
/// How long connections beside the measured ones may take to open, thousands of them with a handshake each.
const GATHER_NS_MAX: u64 = 120_000_000_000;
/// So long before the window it is looked who the proxy's processes are.
const LOOK_NS: u64 = 20_000_000;
/// How long answers may take after the last request was due.
const DRAIN_NS_MAX: u64 = 3_000_000_000;
/// Length of the body that shows whether a proxy serves.
const PROBE_BYTES: u64 = 1024;

/// How long a round warms up and how long it counts.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm_up_ns: u64,
    pub window_ns: u64,
}

/// What one round has shown.
#[derive(Default)]
pub struct Round {
    pub tally: Tally,
    /// What the proxy's processes used within the window.
    pub usage: Option<Usage>,
    /// Length of the window by the clock.
    pub window_ns: u64,
    /// Share of the window in which driver and upstream had something to do; near 1 they are the limit, not the proxy.
    pub driver_busy: f64,
    /// Connections the proxy opened to the upstream within the window.
    pub upstream_opened: u64,
    /// Requests of the window at an endpoint that had left the cluster more than a second before.
    pub strayed: u64,
    /// What was done beside the load, in the order of the scenario; empty in a round that was alone.
    pub beside: Vec<Deeds>,
}

impl Round {
    /// Notes what was done to the proxy at a time of the window, in seconds from its beginning.
    pub fn note(&mut self, at_s: f64, what: impl Into<String>) {
        self.tally.timeline.note(at_s, what);
    }
}

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Right,
    /// Nothing is there under this host and path.
    NotFound,
    /// Another answer than the right one.
    Wrong,
    /// No answer.
    Nothing,
}

/// Client, upstream and clock of a run.
pub struct Driver {
    clock: Clock,
    poller: Poller,
    upstream: Upstream,
    /// The upstream that proxies ask instead, if it is on another host.
    far: Option<FarUpstream>,
    events: Vec<Event>,
    /// What goes on beside the load.
    company: Company,
}

impl Driver {
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let poller = Poller::new()?;
        let upstream = Upstream::bind(&poller)?;
        Ok(Self { clock: Clock::start(), poller, upstream, far: None, events: Vec::new(), company: Company::default() })
    }

    /// A driver whose upstream is in this thread, on these addresses instead of the loopback's.
    ///
    /// # Errors
    /// With the address, where it is not this host's.
    pub fn on(addresses: &[IpAddr]) -> io::Result<Self> {
        let poller = Poller::new()?;
        let upstream = Upstream::bind_on(&poller, addresses)?;
        Ok(Self { clock: Clock::start(), poller, upstream, far: None, events: Vec::new(), company: Company::default() })
    }

    /// A driver whose upstream is on another host: it has no stamps of it, so no times of the two legs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apart(far: FarUpstream) -> io::Result<Self> {
        Ok(Self { far: Some(far), ..Self::on(&[])? })
    }

    /// Where endpoints may be; a cluster begins with the first of them.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.far.as_ref().map_or_else(|| self.upstream.addresses(), FarUpstream::endpoints)
    }

    /// The upstream of this thread.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Tells the upstream which of its addresses are members of the cluster that is asked, from now on.
    pub fn expect_members(&mut self, members: impl Iterator<Item = SocketAddr> + Clone) {
        self.upstream.expect_members(members, self.clock.now_ns());
    }

    /// Now, on the clock of this run.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Lets time pass. Nothing is served meanwhile, and nobody asks.
    pub fn idle_until(&self, at_ns: u64) {
        while self.clock.now_ns() < at_ns {
            std::hint::spin_loop();
        }
    }

    /// One small request, to see whether a proxy serves yet; true if the right answer came in time.
    ///
    /// # Errors
    /// The kernel's; a refused or broken connection is `false`.
    pub fn probe(&mut self, target: &Target, patience_ns: u64) -> io::Result<bool> {
        Ok(self.ask(target, patience_ns)? == Asked::Right)
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// The kernel's; a refused or broken connection is an outcome.
    pub fn ask(&mut self, target: &Target, patience_ns: u64) -> io::Result<Asked> {
        self.upstream.met_ns.resize(1, 0);
        let tally = self.ask_once(Target { connections: 1, ..target.clone() }, patience_ns)?;
        Ok(match tally.last_status {
            _ if tally.completed == 1 => Asked::Right,
            Some(404) => Asked::NotFound,
            Some(_) => Asked::Wrong,
            None if tally.errors.content > 0 => Asked::Wrong,
            None => Asked::Nothing,
        })
    }

    /// One small request on each connection; the first error ends it.
    fn ask_once(&mut self, target: Target, patience_ns: u64) -> io::Result<Tally> {
        let at_once = Pace::Open(vec![0; target.connections as usize]);
        let target = Target { requests: vec![Request::get(PROBE_BYTES)], ..target };
        // Of one kind nothing is drawn.
        let mut client = Client::open(target, at_once, 0, &self.poller)?;
        let begin_ns = self.clock.now_ns();
        let until_ns = begin_ns + patience_ns;
        client.begin(Window { begin_ns, from_ns: begin_ns, until_ns }, begin_ns, &self.poller)?;
        while !client.is_done() && client.tally.errors.total() == 0 && self.clock.now_ns() < until_ns {
            self.turn(&mut client)?;
        }
        Ok(client.end())
    }

    /// Has all of these go on beside the next round.
    pub fn accompany(&mut self, company: Company) {
        self.company = company;
    }

    /// Puts away what a round that has failed has left: its company, and counts of another host that nobody has read.
    pub fn abandon(&mut self) {
        self.company = Company::default();
        let _gone = self.far.as_mut().map(FarUpstream::seen);
    }

    /// Runs one load against one target.
    ///
    /// # Errors
    /// The kernel's; where connections do not open in time; where the proxy is gone.
    pub fn round(&mut self, target: Target, load: Load, span: Span, seed: u64, mut proxy: Option<&mut Watch>) -> io::Result<Round> {
        self.upstream.met_ns = vec![0; target.connections as usize];
        let whole_ns = span.warm_up_ns + span.window_ns;
        let pace = match load {
            Load::Start | Load::Apply { .. } => return Err(io::Error::other(format!("{load} is no load of requests"))),
            Load::Saturate => Pace::Closed,
            Load::Open { rate_per_s, arrivals } => Pace::Open(schedule::due_times(arrivals, rate_per_s, whole_ns, seed)),
        };
        if target.tls.as_ref().is_some_and(|tls| tls.resumes) {
            // What comes of it, the resumed share of the round tells.
            self.ask_once(target.clone(), OPEN_NS_MAX)?;
        }
        let mut client = self.open(target, pace, seed)?;
        self.gather(&mut client, proxy.as_deref_mut())?;
        let begin_ns = self.clock.now_ns();
        let from_ns = begin_ns + span.warm_up_ns;
        let until_ns = begin_ns + whole_ns;
        client.begin(Window { begin_ns, from_ns, until_ns }, begin_ns, &self.poller)?;
        self.company.begin(begin_ns, until_ns);

        // Workers may have come or gone since the proxy was looked at, and to look takes a while: not within the window.
        self.run_until(&mut client, from_ns.saturating_sub(LOOK_NS))?;
        proxy.as_deref_mut().map_or(Ok(()), Watch::again)?;
        self.run_until(&mut client, from_ns)?;
        let mut look = |look| proxy.as_deref_mut().map_or(Ok(()), |proxy| proxy.look(look));
        let mut accepted = Vec::new();
        look(Look::First)?;
        self.count(&mut accepted)?;
        self.company.enter(self.clock.now_ns());
        let (window_from_ns, strayed) = (self.clock.now_ns(), self.upstream.strayed);
        let mut busy_ns = 0;
        for border_ns in timeline::borders(from_ns, until_ns) {
            busy_ns += self.run_until(&mut client, border_ns)?;
            if border_ns < until_ns {
                look(Look::Within)?;
            }
        }
        look(Look::Last)?;
        self.count(&mut accepted)?;
        let window_ns = self.clock.now_ns() - window_from_ns;
        let strayed = self.upstream.strayed - strayed;
        let (beside, moments) = (self.company.leave(), self.company.moments());

        client.stop_asking();
        let patience_ns = until_ns + DRAIN_NS_MAX;
        while !client.is_done() && self.clock.now_ns() < patience_ns {
            self.turn(&mut client)?;
        }
        self.company = Company::default();
        let seen = proxy.map_or(Ok(Vec::new()), Watch::seen)?;
        let usage = seen.first().zip(seen.last()).map(|(before, after)| after.since(*before));
        if let Some(far) = &mut self.far {
            accepted.extend(far.seen()?.iter().map(|count| count.accepted));
        }
        let upstream_opened = accepted.last().zip(accepted.first()).map_or(0, |(after, before)| after.saturating_sub(*before));
        let mut tally = client.end();
        tally.timeline.spend(&seen.iter().map(|usage| usage.cpu_ns).collect::<Vec<_>>());
        let driver_busy = busy_ns as f64 / window_ns as f64;
        let mut round = Round { tally, usage, window_ns, driver_busy, upstream_opened, strayed, beside };
        for (at_s, what) in moments {
            round.note(at_s, what);
        }
        Ok(round)
    }

    /// Notes how many connections the upstream has accepted; one on another host is asked, and says so later.
    fn count(&mut self, accepted: &mut Vec<u64>) -> io::Result<()> {
        match &mut self.far {
            Some(far) => far.look(),
            None => {
                accepted.push(self.upstream.accepted);
                Ok(())
            }
        }
    }

    /// A client whose connections are all open.
    fn open(&mut self, target: Target, pace: Pace, seed: u64) -> io::Result<Client> {
        let address = target.address;
        let mut client = Client::open(target, pace, seed, &self.poller)?;
        let patience_ns = self.clock.now_ns() + OPEN_NS_MAX;
        while !client.is_open() {
            if self.clock.now_ns() > patience_ns {
                return Err(io::Error::other(format!("{address} did not take all connections within 10 s")));
            }
            self.turn(&mut client)?;
        }
        Ok(client)
    }

    /// Has the company come, one after the other, and weighs each by what the proxy's memory grows by.
    fn gather(&mut self, client: &mut Client, mut proxy: Option<&mut Watch>) -> io::Result<()> {
        let mut memory = || proxy.as_deref_mut().map_or(Ok(None), |proxy| proxy.usage().map(|usage| Some(usage.memory_bytes)));
        for member in 0..self.company.len() {
            let before = memory()?;
            let patience_ns = self.clock.now_ns() + GATHER_NS_MAX;
            self.company.invite(member);
            while !self.company.is_there(member) {
                if self.clock.now_ns() > patience_ns {
                    return Err(io::Error::other("the proxy did not take all connections beside the load within 120 s"));
                }
                self.turn(client)?;
            }
            self.company.weigh(before.zip(memory()?).map(|(before, after)| after.saturating_sub(before)));
        }
        Ok(())
    }

    /// Takes turns until the clock says so; returns the time in which there was something to do.
    fn run_until(&mut self, client: &mut Client, until_ns: u64) -> io::Result<u64> {
        let mut busy_ns = 0;
        let mut now_ns = self.clock.now_ns();
        while now_ns < until_ns {
            let worked = self.turn(client)?;
            let then_ns = now_ns;
            now_ns = self.clock.now_ns();
            if worked {
                busy_ns += now_ns - then_ns;
            }
        }
        Ok(busy_ns)
    }

    /// Sends what is due and handles what has happened; due requests go first, between any two events.
    fn turn(&mut self, client: &mut Client) -> io::Result<bool> {
        let mut worked = client.dispatch(self.clock.now_ns(), &self.poller)?;
        self.poller.poll(&mut self.events)?;
        worked |= !self.events.is_empty();
        for event in &self.events {
            match event.token.role {
                Role::Listener => self.upstream.accept(event.token.slot, &self.poller)?,
                Role::Upstream => self.upstream.serve(*event, &self.clock),
                Role::Client => client.advance(*event, self.clock.now_ns(), &self.upstream.met_ns, &self.poller)?,
                Role::Beside => self.company.wake(*event),
            }
            client.dispatch(self.clock.now_ns(), &self.poller)?;
        }
        worked |= self.upstream.resume(&self.clock);
        client.dispatch(self.clock.now_ns(), &self.poller)?;
        for _ in 0..client.postponed() {
            let Some(event) = client.resumed(self.clock.now_ns()) else { break };
            worked = true;
            client.advance(event, self.clock.now_ns(), &self.upstream.met_ns, &self.poller)?;
            client.dispatch(self.clock.now_ns(), &self.poller)?;
        }
        if let Some(members) = self.company.hear(self.clock.now_ns()) {
            self.expect_members(members.into_iter());
        }
        worked |= self.company.turn(self.clock.now_ns(), &self.poller)?;
        Ok(worked)
    }
}
