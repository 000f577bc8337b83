//! The guests whose building has begun: what comes of them is told in the order of their descriptions, whoever is built
//! first.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::say::{error, info};
use ::memory::PaRange;
use abi::DomainId;
use devtree::guest::DomainConfig;
use devtree::{Problem, plan};

use super::{Error, tell};
use crate::machine::Domain;
use crate::{crew, lifecycle, memory_map, schedule, store};

/// What has become of a guest.
pub(super) enum Outcome {
    /// It is being built, in these chunks.
    UnderWay(&'static Domain, Vec<PaRange>),
    /// It is built.
    Built(&'static Domain),
    /// It is known, and begins later.
    Waits(&'static Domain),
}

struct Begun {
    config: &'static DomainConfig,
    /// What is to be told of it.
    problems: Vec<Problem>,
    outcome: Result<Outcome, Error>,
}

impl Begun {
    fn is_under_way(&self) -> bool {
        matches!(self.outcome, Ok(Outcome::UnderWay(..)))
    }
}

/// All guests so far.
pub(super) struct Roll {
    /// Those of which not all has been told, in order.
    begun: VecDeque<Begun>,
    /// Those that are there, of which all has.
    pub(super) domains: Vec<&'static Domain>,
}

impl Roll {
    pub(super) fn new(guests: usize) -> Self {
        Self {
            begun: VecDeque::new(),
            domains: Vec::with_capacity(guests),
        }
    }

    /// Another guest. Where nobody else is free, one is built here.
    pub(super) fn add(
        &mut self,
        config: &'static DomainConfig,
        problems: Vec<Problem>,
        outcome: Result<Outcome, Error>,
    ) {
        self.begun.push_back(Begun {
            config,
            problems,
            outcome,
        });
        while !crew::has_room()
            && let Some(built) = crew::next()
        {
            self.note(built);
        }
        self.tell_in_order();
    }

    /// Whether one is under way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Waits until none is under way.
    pub(super) fn settle(&mut self) {
        while let Some(built) = crew::next() {
            self.note(built);
        }
        self.tell_in_order();
    }

    /// What came of one that was under way.
    fn note(&mut self, (domain, result): crew::Built) {
        let is_its = |begun: &&mut Begun| match &begun.outcome {
            Ok(Outcome::UnderWay(other, _)) => other.id == domain.id,
            _ => false,
        };
        let Some(begun) = self.begun.iter_mut().find(is_its) else {
            return;
        };
        let outcome = match result {
            Ok(()) => Ok(Outcome::Built(domain)),
            Err(error) => Err(error.into()),
        };
        let before = core::mem::replace(&mut begun.outcome, outcome);
        if let (Ok(Outcome::UnderWay(_, chunks)), Err(_)) = (before, &begun.outcome) {
            leave_out(domain.id, &chunks);
        }
    }

    /// Tells of all up to the first that is under way.
    fn tell_in_order(&mut self) {
        while self
            .begun
            .front()
            .is_some_and(|begun| !begun.is_under_way())
            && let Some(begun) = self.begun.pop_front()
        {
            begun.problems.iter().for_each(tell);
            let config = begun.config;
            match begun.outcome {
                Ok(Outcome::Built(domain)) => {
                    make_ready(domain);
                    self.domains.push(domain);
                }
                Ok(Outcome::Waits(domain) | Outcome::UnderWay(domain, _)) => {
                    let (name, id) = (&domain.name, domain.id.0);
                    match config.life.manual_start {
                        true => info!("{name}: domain {id}, started by hand"),
                        false => {
                            let after = config.after.join(", ");
                            info!("{name}: domain {id}, starts after {after}");
                        }
                    }
                    self.domains.push(domain);
                }
                Err(Error::Plan(error)) => tell(&plan::problem(config, &error)),
                Err(error) => error!("/chosen/{}: {error}; guest left out", config.name),
            }
        }
    }
}

/// A guest that could not be built has nothing.
pub(super) fn leave_out(id: DomainId, chunks: &[PaRange]) {
    while store::remove_some(id) {}
    memory_map::pool().give_back(chunks);
}

/// A guest that has been built runs when guests start.
fn make_ready(domain: &'static Domain) {
    lifecycle::begin(domain, &mut domain.life.lock());
    let homes = domain.vcpus().iter().map(|vcpu| vcpu.home().index);
    let recipe = &domain.recipe;
    info!("{}", recipe.plan.line(recipe.config, homes));
    if let Some(first) = domain.vcpus().first()
        && first.run.claim().is_ok()
        && first.run.complete()
    {
        schedule::enqueue(first);
    }
}
