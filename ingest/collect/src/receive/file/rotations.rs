//! A followed file is rotated, truncated, copied, overwritten, renamed and deleted in random order, and its follower killed:
//! every line is in the lake once.
//!
//! The model is the list of lines that were written. A step may destroy lines only after they were read and committed, or
//! when they lie in a file beside; all else is allowed at any moment, whether a follower lives or not. A kill drops the
//! follower with all that it had in memory. Two seeds are fixed and one is by chance; it is printed, and repeats the run when it
//! is written beside them.

use super::follow::Follower;
use super::tests::{Try, job};
use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

const BANNER: &str = "{\"msg\":\"gateway 1.4 started\"}\n";
const KEPT: usize = 6;
const STEPS: usize = 500;

struct World<'a> {
    dice: StdRng,
    path: PathBuf,
    written: usize,
    follower: Option<Follower<'a>>,
    start: &'a dyn Fn() -> Follower<'a>,
    kills: usize,
    history: Vec<&'static str>,
}

impl World<'_> {
    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.path.display()))
    }

    fn lines(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.dice.random_range(1..6) {
            // Of equal length, as in the attack.
            text += &format!(
                "{{\"id\":\"e{:06}\",\"time\":\"2026-11-21T00:00:00Z\",\"decision\":{{\"verdict\":\"allow\"}}}}\n",
                self.written
            );
            self.written += 1;
        }
        text
    }

    /// What a new file begins with.
    fn fresh(&mut self) -> String {
        let banner = if self.dice.random_bool(0.8) { BANNER } else { "" };
        banner.to_owned() + &self.lines()
    }

    fn append(&mut self, path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn step(&mut self) -> bool {
        self.follower.get_or_insert_with(self.start).step().unwrap()
    }

    fn flush(&mut self) {
        self.follower.get_or_insert_with(self.start).flush().unwrap();
    }

    fn look(&mut self) {
        for _ in 0..self.dice.random_range(0..4) {
            self.step();
            if self.dice.random_bool(0.3) {
                self.flush();
            }
        }
    }

    /// Reads all there is, and commits it.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            idle = if self.step() { 0 } else { idle + 1 };
        }
        self.flush();
    }

    fn kill(&mut self) {
        self.kills += usize::from(self.follower.take().is_some());
    }

    /// Moves rotated files on by one number. The last one goes.
    fn shift(&mut self) {
        if self.beside(&format!(".{KEPT}")).try_exists().unwrap() {
            self.settle();
        }
        for n in (1..KEPT).rev() {
            let _ = fs::rename(self.beside(&format!(".{n}")), self.beside(&format!(".{}", n + 1)));
        }
    }

    fn act(&mut self) {
        let (path, one) = (self.path.clone(), self.beside(".1"));
        let exists = path.try_exists().unwrap();
        match self.dice.random_range(0..13) {
            0..=2 => {
                self.history.push("append");
                let text = if exists { self.lines() } else { self.fresh() };
                // A writer may be seen half way through a line.
                let half = self.dice.random_range(0..text.len());
                self.append(&path, &text[..half]);
                self.look();
                self.append(&path, &text[half..]);
            }
            3 | 4 if exists => {
                self.history.push("rotate");
                self.shift();
                fs::rename(&path, &one).unwrap();
                if self.dice.random_bool(0.5) {
                    let text = self.fresh();
                    self.append(&path, &text);
                    self.look();
                }
                // Its writer has not noticed yet.
                if self.dice.random_bool(0.3) {
                    let text = self.lines();
                    self.append(&one, &text);
                }
            }
            5 if exists => {
                self.history.push("copy and truncate");
                self.shift();
                fs::copy(&path, &one).unwrap();
                let text = if self.dice.random_bool(0.7) { self.fresh() } else { String::new() };
                fs::write(&path, text).unwrap();
            }
            6 => {
                self.history.push("overwrite");
                self.settle();
                let text = self.fresh();
                fs::write(&path, text).unwrap();
            }
            7 => {
                self.history.push("truncate");
                self.settle();
                fs::write(&path, "").unwrap();
                self.look();
                let text = self.fresh();
                self.append(&path, &text);
            }
            8 if one.try_exists().unwrap() => {
                self.history.push("copy back");
                self.settle();
                let from = self.dice.random_range(1..=KEPT);
                let from = self.beside(&format!(".{from}"));
                // One line is not enough to tell a copy that grew from another log that begins alike.
                if fs::read_to_string(&from).is_ok_and(|text| text.lines().count() > 1) {
                    match self.dice.random_bool(0.5) {
                        true => fs::copy(&from, &path).map(|_| ()).unwrap(),
                        false => {
                            let temporary = self.beside(".tmp");
                            fs::copy(&from, &temporary).unwrap();
                            fs::rename(&temporary, &path).unwrap();
                        }
                    }
                }
            }
            9 if exists => {
                self.history.push("rewrite beside and rename");
                let temporary = path.with_file_name("sedAbC");
                let mut text = fs::read_to_string(&path).unwrap();
                text += &self.lines();
                fs::write(&temporary, text).unwrap();
                self.look();
                fs::rename(&temporary, &path).unwrap();
            }
            10 if exists => {
                self.history.push("backup");
                fs::copy(&path, self.beside(".bak")).unwrap();
            }
            11 if exists => {
                self.history.push("rename and back");
                let away = self.beside(".away");
                fs::rename(&path, &away).unwrap();
                self.look();
                fs::rename(&away, &path).unwrap();
            }
            12 => {
                self.history.push("delete");
                self.settle();
                let _ = fs::remove_file(&path);
            }
            _ => {}
        }
    }
}

#[test]
fn every_line_once_whatever_happens_to_the_file() {
    for seed in [1, 99, rand::random::<u32>().into()] {
        println!("seed {seed}");
        every_line_once(seed);
    }
}

fn every_line_once(seed: u64) {
    let t = Try::new();
    let path = t.folder.path().join("live.log");
    let mut job = job(1);
    // What is in memory is lost by a kill, unless it was flushed on purpose.
    job.settings.flush_age = Duration::from_secs(86_400);
    let start = || {
        let mut follower = Follower::new(&t.lake, t.runtime.handle(), &path, &job, &|_| {});
        follower.linger = Duration::from_secs(86_400);
        follower
    };
    let (dice, history) = (StdRng::seed_from_u64(seed), Vec::new());
    let mut world = World { dice, path: path.clone(), written: 0, follower: None, start: &start, kills: 0, history };
    // What was rotated before anything was followed is history, and not read.
    let first = world.fresh();
    world.append(&path, &first);
    world.settle();
    for _ in 0..STEPS {
        world.act();
        world.look();
        if world.dice.random_bool(0.15) {
            world.history.push("kill");
            world.kill();
        }
    }
    world.kill();
    world.settle();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (_, _, id, raw) in t.rows() {
        match (id, raw) {
            (Some(id), _) => *seen.entry(id).or_default() += 1,
            (None, raw) => assert_eq!(raw.as_deref(), Some(BANNER.trim_end().as_bytes()), "half a line"),
        }
    }
    let wrong: Vec<_> = (0..world.written)
        .map(|n| format!("e{n:06}"))
        .filter_map(|id| seen.get(&id).copied().unwrap_or(0).ne(&1).then(|| (seen.get(&id).copied(), id.clone())))
        .collect();
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} of {} lines: {:?}",
        wrong.len(),
        world.written,
        &wrong[..wrong.len().min(20)]
    );
    assert!(world.kills > 20 && world.written > 500, "{} kills, {} lines", world.kills, world.written);
}
