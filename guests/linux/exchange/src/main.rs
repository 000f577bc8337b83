//! Two Linux guests exchange data over pages that one grants and an event channel between them, by Linux's own devices:
//! gntalloc, gntdev, evtchn and xenbus.
//!
//!     exchange offer PEER [PAGES [ROUNDS]]    grants pages, says in the store which they are
//!     exchange take PEER                      maps them; also copies by grant, and ends without unmapping
//!
//! In each round the one fills all pages and says their checksum, the other reads them, fills them itself, and
//! says that one. At the end each prints a checksum of all that it has sent and of all that it has got.
#![no_std]
#![no_main]

mod devices;
mod store;
mod system;

use core::sync::atomic::{AtomicU64, Ordering};
use devices::{Channel, Granted, MOST_PAGES, Mapped};
use store::{DENIED, NOT_THERE, Store, Text};
use system::{Arguments, Foreign, Mapping, Page, Trouble};

/// Where the offer stands, below its owner's home.
const NODE: &str = "data/exchange";

// Words of the first page, which holds no data.
/// Whose turn it is: 2n+1, the giver has filled for round n; 2n+2, the taker has answered.
const TURN: usize = 0;
/// The checksum of the pages as they are.
const SUM: usize = 1;
/// Its first byte is 1 while the taker has the pages mapped.
const THERE: usize = 2;

/// What is told instead of a turn when all rounds are done.
const END: u64 = u64::MAX;
/// Words of a page.
const WORDS: usize = abi::PAGE_SIZE / 8;

fn main(arguments: Arguments) -> i32 {
    match run(arguments) {
        Ok(()) => 0,
        Err(trouble) => {
            println!("exchange: FAIL {trouble}");
            1
        }
    }
}

fn run(mut arguments: Arguments) -> Result<(), Trouble> {
    let usage = Trouble(
        "usage: exchange offer PEER [PAGES [ROUNDS]] | exchange take PEER",
        22,
    );
    let what = arguments.next().ok_or(usage)?;
    let mut numbers = [0, 16, 64];
    for (slot, word) in numbers.iter_mut().zip(&mut arguments) {
        *slot = word.parse().map_err(|_| usage)?;
    }
    let [peer, pages, rounds] = numbers;
    let peer = u16::try_from(peer).map_err(|_| usage)?;
    match what {
        "offer" if (2..=MOST_PAGES).contains(&pages) && rounds != 0 => offer(peer, pages, rounds),
        "take" => take(peer),
        _ => Err(usage),
    }
}

/// A checksum over words (FNV-1a's step, a word at a time).
#[derive(Clone, Copy)]
struct Sum(u64);

impl Sum {
    const NEW: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// Both sides of the conversation: pages, the channel, what went through.
struct Talk<'a> {
    pages: &'a Mapping,
    channel: &'a Channel,
    random: u64,
    sent: Sum,
    got: Sum,
}

impl<'a> Talk<'a> {
    fn new(pages: &'a Mapping, channel: &'a Channel, seed: u64) -> Self {
        Self {
            pages,
            channel,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            sent: Sum::NEW,
            got: Sum::NEW,
        }
    }

    fn word(&self, index: usize) -> &'a AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.pages.words().get(index).unwrap_or(&NONE)
    }

    fn data(&self) -> impl Iterator<Item = &'a AtomicU64> + use<'a> {
        self.pages.words().iter().skip(WORDS)
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills the pages with what was not there before.
    fn fill(&mut self) {
        let data = self.data();
        for word in data {
            word.store(self.random(), Ordering::Relaxed);
        }
    }

    /// Says that the pages are filled.
    fn say(&mut self, turn: u64) -> Result<(), Trouble> {
        let mut sum = Sum::NEW;
        for word in self.data() {
            let word = word.load(Ordering::Relaxed);
            sum.add(word);
            self.sent.add(word);
        }
        self.word(SUM).store(sum.0, Ordering::Relaxed);
        self.pass_on(turn)
    }

    fn pass_on(&mut self, turn: u64) -> Result<(), Trouble> {
        self.word(TURN).store(turn, Ordering::Release);
        self.channel.send()
    }

    /// Waits for the other side, and takes what it has filled; or tells its end.
    fn hear(&mut self, turn: u64) -> Result<bool, Trouble> {
        loop {
            match self.word(TURN).load(Ordering::Acquire) {
                END => return Ok(false),
                now if now == turn => break,
                _ => self.channel.wait()?,
            }
        }
        let mut sum = Sum::NEW;
        for word in self.data() {
            let word = word.load(Ordering::Relaxed);
            sum.add(word);
            self.got.add(word);
        }
        match sum.0 == self.word(SUM).load(Ordering::Relaxed) {
            true => Ok(true),
            false => Err(Trouble("checksum, in turn", turn as i32)),
        }
    }

    fn done(&self, what: &str, rounds: u64) {
        let pages = self.pages.words().len() / WORDS - 1;
        let (sent, got) = (self.sent.0, self.got.0);
        println!(
            "exchange: PASS {what} {pages} pages, {rounds} rounds, sent {sent:016x} got {got:016x}"
        );
    }
}

fn offer(peer: u16, pages: usize, rounds: usize) -> Result<(), Trouble> {
    let mut store = Store::open()?;
    let own = number(store.read("domid")?.as_str())?;
    let granted = Granted::new(peer, pages)?;
    let channel = Channel::open_for(peer)?;
    let farewell = Channel::open_for(peer)?;
    let mut talk = Talk::new(&granted.pages, &channel, u64::from(own));
    talk.word(TURN).store(0, Ordering::Release);

    let mut words = Text::new(format_args!("{} {}", channel.port, farewell.port))?;
    for grant in granted.grants.iter().take(pages) {
        let _ = core::fmt::Write::write_fmt(&mut words, format_args!(" {grant}"));
    }
    store.write(NODE, words.as_str())?;
    store.show(NODE, own, peer)?;

    // The other side has come when it says so.
    channel.wait()?;
    for round in 0..rounds as u64 {
        talk.fill();
        talk.say(2 * round + 1)?;
        talk.hear(2 * round + 2)?;
    }
    talk.pass_on(END)?;
    // It ends as it is: Linux unmaps its pages, clears the byte, and sends the event.
    farewell.wait()?;
    let there = granted.pages.bytes().get(THERE * 8);
    if there.is_none_or(|byte| byte.load(Ordering::Acquire) != 0) {
        return Err(Trouble("the event came, but the byte is not cleared", 71));
    }
    store.remove(NODE)?;
    talk.done("offered", rounds as u64);
    Ok(())
}

fn take(peer: u16) -> Result<(), Trouble> {
    let mut store = Store::open()?;
    let own = number(store.read("domid")?.as_str())?;
    let path = Text::new(format_args!("/local/domain/{peer}/{NODE}"))?;
    store.watch(path.as_str())?;
    let node = loop {
        store.wait()?;
        match store.read(path.as_str()) {
            Ok(node) => break node,
            // Not yet there, or not yet shown to this guest.
            Err(Trouble(_, NOT_THERE | DENIED)) => {}
            Err(other) => return Err(other),
        }
    };
    let mut words = node.as_str().split(' ');
    let mut next = || words.next().and_then(|word| word.parse::<u32>().ok());
    let bad = Trouble("the offer is no offer", 22);
    let (port, last_port) = (next().ok_or(bad)?, next().ok_or(bad)?);
    let mut grants = [0; MOST_PAGES];
    let mut count = 0;
    for (slot, grant) in grants.iter_mut().zip(core::iter::from_fn(next)) {
        *slot = grant;
        count += 1;
    }
    let grants = grants.get(..count).unwrap_or_default();
    let last = *grants.last().ok_or(bad)?;

    let mapped = Mapped::new(peer, grants)?;
    let channel = Channel::bind(peer, port)?;
    let farewell = Channel::bind(peer, last_port)?;
    let mut talk = Talk::new(&mapped.pages, &channel, u64::from(own) << 32);
    if let Some(byte) = mapped.pages.bytes().get(THERE * 8) {
        byte.store(1, Ordering::Release);
    }
    mapped.say_farewell(THERE * 8, farewell.port)?;
    channel.send()?;

    let last = Foreign {
        domain: peer,
        grant: last,
    };
    let mut page = Page([0; WORDS]);
    let mut round = 0;
    while talk.hear(2 * round + 1)? {
        // The last page comes by copy as well, and its answer by copy alone.
        mapped.device.copy_page(last, &mut page, false)?;
        let shown = talk.data().skip((count - 2) * WORDS);
        if !shown
            .zip(&page.0)
            .all(|(one, other)| one.load(Ordering::Relaxed) == *other)
        {
            return Err(Trouble("the copy is not what is mapped", 5));
        }
        talk.fill();
        for word in &mut page.0 {
            *word = talk.random();
        }
        mapped.device.copy_page(last, &mut page, true)?;
        talk.say(2 * round + 2)?;
        round += 1;
    }
    talk.done("took", round);
    // Nothing is unmapped or closed: that is Linux's, as if the program had been killed.
    system::exit(0)
}

fn number(text: &str) -> Result<u16, Trouble> {
    text.parse().map_err(|_| Trouble("domid is no number", 22))
}
