//! A domain ends while a CPU loads or lets go of its vCPU.

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use viaduct_domain::presence::{Alive, Loaded, is_any_loaded};

struct Domain {
    alive: Alive,
    loaded: Loaded,
    /// The CPU has something of it in its registers.
    in_use: AtomicBool,
    /// What follows the end has begun.
    finished: Mutex<bool>,
}

impl Domain {
    /// Whoever comes last begins what follows.
    fn left(&self) {
        let mut finished = self.finished.lock().unwrap();
        if !is_any_loaded([&self.loaded].into_iter()) {
            assert!(!self.in_use.load(Ordering::Relaxed), "it is loaded");
            *finished = true;
        }
    }

    fn run(&self) {
        self.loaded.set(true);
        if self.alive.get() {
            assert!(!*self.finished.lock().unwrap(), "it has ended");
            self.in_use.store(true, Ordering::Relaxed);
            self.in_use.store(false, Ordering::Relaxed);
        }
        self.loaded.set(false);
        if !self.alive.get() {
            self.left();
        }
    }
}

#[test]
fn the_last_to_let_go_of_a_domain_that_ends_knows_it() {
    loom::model(|| {
        let domain = Arc::new(Domain {
            alive: Alive::default(),
            loaded: Loaded::default(),
            in_use: AtomicBool::new(false),
            finished: Mutex::new(false),
        });
        domain.alive.set(true);
        let cpu = {
            let domain = Arc::clone(&domain);
            thread::spawn(move || domain.run())
        };
        domain.alive.set(false);
        domain.left();
        cpu.join().unwrap();
        assert!(*domain.finished.lock().unwrap());
    });
}
