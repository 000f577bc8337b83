//! The console seen from outside: what a terminal shows of its output.

use proptest::prelude::*;

use crate::{Console, Input, MAX_LINE, SourceId, Switch};

/// What a terminal shows: knows the few sequences that the console itself writes.
#[derive(Default)]
struct Terminal {
    lines: Vec<String>,
    last: Vec<char>,
    column: usize,
    /// A sequence that is not complete yet.
    kept: Vec<u8>,
}

impl Terminal {
    fn show(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let last = self
            .kept
            .iter()
            .rposition(|&byte| byte == 0x1b || byte >= 0xc0);
        let complete = match last {
            Some(at)
                if ["", "\x1b", "\x1b[", "\x1b[0"]
                    .iter()
                    .any(|part| self.kept[at..] == *part.as_bytes()) =>
            {
                at
            }
            _ => self.kept.len(),
        };
        let text = String::from_utf8(self.kept.drain(..complete).collect()).unwrap();
        let mut rest = text.as_str();
        while let Some(character) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("\x1b[K") {
                self.last.truncate(self.column);
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix("\x1b[0m") {
                rest = after;
                continue;
            }
            rest = &rest[character.len_utf8()..];
            match character {
                '\r' => self.column = 0,
                '\n' => {
                    self.lines.push(self.last.drain(..).collect());
                    self.column = 0;
                }
                _ => {
                    self.last.truncate(self.last.len().max(self.column));
                    if self.column < self.last.len() {
                        self.last[self.column] = character;
                    } else {
                        self.last.push(character);
                    }
                    self.column += 1;
                }
            }
        }
    }

    fn last(&self) -> String {
        self.last.iter().collect()
    }

    /// The lines under a name.
    fn under(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}| ");
        self.lines
            .iter()
            .filter_map(|line| line.strip_prefix(prefix.as_str()))
            .collect()
    }
}

fn drain(console: &mut Console, most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < most {
        let left = most - out.len();
        let chunk = console.output();
        let count = chunk.len().min(left);
        if count == 0 {
            break;
        }
        out.extend_from_slice(&chunk[..count]);
        console.consumed(count);
    }
    out
}

fn three() -> (Console, SourceId, SourceId) {
    let mut console = Console::new("viaduct", 0, Switch::default()).unwrap();
    let linux = console.add("linux", 0).unwrap();
    let hello = console.add("hello", 0).unwrap();
    (console, linux, hello)
}

fn text(console: &mut Console) -> String {
    String::from_utf8(drain(console, usize::MAX)).unwrap()
}

#[test]
fn lines_come_out_whole_under_their_names() {
    let (mut console, linux, hello) = three();
    console.write(linux, b"one ");
    console.write(hello, b"tick\n");
    console.write(linux, b"line\r\nnext");
    console.write(SourceId::HYPERVISOR, b"started\n");
    assert_eq!(
        text(&mut console),
        "hello| tick\r\nlinux| one line\r\nviaduct| started\r\n"
    );
}

#[test]
fn the_unfinished_line_of_who_has_the_input_is_drawn_again() {
    let (mut console, linux, hello) = three();
    console.give_input(linux);
    let _ = drain(&mut console, usize::MAX);
    console.write(linux, b"~ # ");
    assert_eq!(text(&mut console), "linux| ~ # ");
    console.write(hello, b"tick\n");
    assert_eq!(text(&mut console), "\r\x1b[Khello| tick\r\nlinux| ~ # ");
    console.write(linux, b"\x1b[1mls\r\nbin\r\n");
    assert_eq!(text(&mut console), "\x1b[1mls\r\nlinux| bin\r\n");
    console.write(linux, b"\x1b[1m~ # ");
    console.write(hello, b"tick\n");
    assert!(text(&mut console).contains("\r\x1b[K\x1b[0mhello| tick\r\nlinux| \x1b[1m~ # "));
}

#[test]
fn a_question_to_the_terminal_is_asked_once() {
    let (mut console, one, two) = three();
    console.give_input(one);
    drain(&mut console, usize::MAX);
    console.write(one, b"# \x1b[6n");
    let asked = drain(&mut console, usize::MAX);
    assert!(asked.ends_with(b"# \x1b[6n"));
    console.write(two, b"beat\n");
    let drawn = drain(&mut console, usize::MAX);
    assert!(
        drawn.ends_with(b"# "),
        "{:?}",
        drawn.escape_ascii().to_string()
    );
    // Letters alone are no question.
    console.write(one, b"run");
    console.write(two, b"beat\n");
    assert!(drain(&mut console, usize::MAX).ends_with(b"# run"));
}

#[test]
fn a_carriage_return_goes_behind_the_name() {
    let (mut console, linux, hello) = three();
    console.give_input(linux);
    let _ = drain(&mut console, usize::MAX);
    console.write(linux, b"10%\r20%");
    assert_eq!(text(&mut console), "linux| 10%\rlinux| 20%");
    console.write(hello, b"10%\r20%\r\n\r\n");
    let mut terminal = Terminal::default();
    terminal.show(&drain(&mut console, usize::MAX));
    assert_eq!(terminal.lines, ["hello| 20%", "hello| "]);
    assert_eq!(terminal.last(), "linux| 20%");
    // Without the input it is filtered: the name that stands inside goes too.
    console.give_input(hello);
    console.write(linux, b"0\n");
    assert!(text(&mut console).ends_with("linux| 20%0\r\n"));
}

#[test]
fn a_line_that_may_take_two_rows_is_not_erased() {
    let (mut console, linux, hello) = three();
    console.give_input(linux);
    let _ = drain(&mut console, usize::MAX);
    console.write(linux, &[b'x'; 100]);
    let _ = drain(&mut console, usize::MAX);
    console.write(hello, b"tick\n");
    assert!(text(&mut console).starts_with("\r\nhello| tick\r\nlinux| xxx"));
    // Full-screen programs write on without an end: nothing is cut in.
    for _ in 0..1000 {
        console.write(linux, b"\x1b[1;1Hx");
        assert_eq!(text(&mut console), "\x1b[1;1Hx");
    }
}

#[test]
fn a_long_line_is_cut() {
    let (mut console, linux, _) = three();
    let mut line = vec![b'a'; MAX_LINE - 1];
    line.extend("€".as_bytes());
    line.extend(b"b\n");
    console.write(linux, &line);
    let expected = format!("linux| {}\r\nlinux| €b\r\n", "a".repeat(MAX_LINE - 1));
    assert_eq!(text(&mut console), expected);
}

#[test]
fn three_presses_switch_and_fewer_are_keys() {
    let (mut console, linux, hello) = three();
    let to = |id, keys: &[u8], input: Input| match input {
        Input::To(of, got) => assert_eq!((of, &got[..]), (id, keys)),
        other => panic!("{other:?}"),
    };
    to(SourceId::HYPERVISOR, b"x", console.input(b'x'));
    for expected in [linux, hello, SourceId::HYPERVISOR, linux] {
        assert_eq!(console.input(1), Input::None);
        assert_eq!(console.input(1), Input::None);
        assert_eq!(console.input(1), Input::Switched(expected));
        assert_eq!(console.focus(), expected);
    }
    assert_eq!(console.input(1), Input::None);
    to(linux, b"\x01x", console.input(b'x'));
    assert_eq!(
        (console.input(1), console.input(1)),
        (Input::None, Input::None)
    );
    to(linux, b"\x01\x01x", console.input(b'x'));
    to(linux, b"x", console.input(b'x'));
    assert!(
        text(&mut console)
            .ends_with("viaduct| *** input goes to linux (Ctrl-A three times: to the next)\r\n")
    );
}

#[test]
fn a_prompt_is_there_after_switching_there_and_back() {
    let (mut console, linux, hello) = three();
    console.give_input(linux);
    console.write(linux, b"~ # ");
    console.give_input(hello);
    let mut terminal = Terminal::default();
    terminal.show(&drain(&mut console, usize::MAX));
    assert_eq!(terminal.last(), "");
    console.give_input(linux);
    terminal.show(&drain(&mut console, usize::MAX));
    assert_eq!(terminal.last(), "linux| ~ # ");
    console.write(linux, b"ls");
    terminal.show(&drain(&mut console, usize::MAX));
    assert_eq!(terminal.last(), "linux| ~ # ls");
}

#[test]
fn a_removed_source_is_passed_over_and_its_place_used_again() {
    let (mut console, linux, hello) = three();
    console.write(linux, b"last words");
    console.give_input(linux);
    console.remove(linux);
    console.write(linux, b"from the grave\n");
    assert_eq!(console.focus(), SourceId::HYPERVISOR);
    let mut terminal = Terminal::default();
    // Its output is still to come, so its place is not.
    let third = console.add("third", 0).unwrap();
    assert!(third != linux && third != hello);
    terminal.show(&drain(&mut console, usize::MAX));
    assert_eq!(terminal.under("linux"), ["last words"]);
    assert_eq!(console.add("again", 0).unwrap(), linux);
    console.remove(SourceId::HYPERVISOR);
    console.write(SourceId::HYPERVISOR, b"here\n");
    assert_eq!(text(&mut console), "viaduct| here\r\n");
}

#[test]
fn names_are_harmless() {
    let mut console = Console::new("", 0, Switch::default()).unwrap();
    let odd = console.add("a\x1b[2J\nb\u{9b}", 0).unwrap();
    let long = console.add(&"ö".repeat(40), 0).unwrap();
    console.write(SourceId::HYPERVISOR, b"bare\n");
    console.write(odd, b"x\n");
    console.write(long, b"y\n");
    assert_eq!(
        text(&mut console),
        format!("bare\r\na[2Jb| x\r\n{}| y\r\n", "ö".repeat(16))
    );
}

#[test]
fn a_flood_loses_its_own_lines_and_says_how_many() {
    for focused in [false, true] {
        let (mut console, linux, hello) = three();
        if focused {
            console.give_input(hello);
        }
        let (mut written, mut terminal) = (0, Terminal::default());
        for round in 0..200 {
            for _ in 0..50 {
                console.write(hello, format!("flood {written}\n").as_bytes());
                written += 1;
            }
            console.write(linux, format!("calm {round}\n").as_bytes());
            terminal.show(&drain(&mut console, 200));
        }
        assert!(!console.has_room(hello) || !terminal.under("hello").is_empty());
        terminal.show(&drain(&mut console, usize::MAX));
        let calm: Vec<_> = (0..200).map(|round| format!("calm {round}")).collect();
        assert_eq!(terminal.under("linux"), calm, "focused {focused}");

        let mut next = 0;
        for line in terminal.under("hello") {
            if let Some(lost) = line.strip_prefix('[') {
                next += lost.split(' ').next().unwrap().parse::<usize>().unwrap();
            } else if line != format!("flood {next}") {
                // The beginning of a line that was lost while it was being shown; counted as lost.
                assert!(
                    focused && format!("flood {next}").starts_with(line),
                    "{line}"
                );
            } else {
                next += 1;
            }
        }
        assert_eq!(next, written);
    }
}

/// A piece of what a source writes: words and ends of lines.
fn piece() -> impl Strategy<Value = (usize, String)> {
    (0..3usize, "[a-z ]{0,12}(\n|\r\n|)")
}

proptest! {
    /// However the sources' pieces, the switches and the UART's appetite fall: each source's lines are
    /// there, whole, in order, under its name, and nothing else is.
    #[test]
    fn lines_neither_mix_nor_get_lost(
        pieces in prop::collection::vec((piece(), 0..200usize, 0..20u8), 1..150),
    ) {
        let mut console = Console::new("h0", 1 << 16, Switch::default()).unwrap();
        let ids = [
            SourceId::HYPERVISOR,
            console.add("g1", 1 << 16).unwrap(),
            console.add("g2", 1 << 16).unwrap(),
        ];
        let (mut terminal, mut written) = (Terminal::default(), [const { String::new() }; 3]);
        for ((of, piece), appetite, switch) in pieces {
            // Short enough to stand on one row.
            let since = written[of].rsplit('\n').next().unwrap().len();
            let piece = if since + piece.len() > 70 { "\n".to_string() } else { piece };
            written[of].push_str(&piece);
            console.write(ids[of], piece.as_bytes());
            if switch < 3 {
                console.give_input(ids[usize::from(switch)]);
            }
            terminal.show(&drain(&mut console, appetite));
        }
        terminal.show(&drain(&mut console, usize::MAX));
        let mut count = 0;
        for (of, name) in ["h0", "g1", "g2"].into_iter().enumerate() {
            let mut expected: Vec<_> = written[of].split('\n').map(|line| line.trim_end_matches('\r')).collect();
            let unfinished = expected.pop().unwrap();
            let mut shown = terminal.under(name);
            shown.retain(|line| !line.starts_with("***"));
            prop_assert_eq!(&shown, &expected);
            count += shown.len();
            if console.focus() == ids[of] {
                let last = if unfinished.is_empty() { String::new() } else { format!("{name}| {unfinished}") };
                prop_assert_eq!(terminal.last(), last);
            }
        }
        let announcements = terminal.lines.iter().filter(|line| line.starts_with("h0| ***")).count();
        prop_assert_eq!(terminal.lines.len(), count + announcements);
    }

    /// Bytes that are taken at once come to the same as one by one.
    #[test]
    fn runs_are_as_their_bytes(
        writes in prop::collection::vec(
            (0..3usize, prop_oneof![
                "[ -~]{0,60}(\n|\r\n|\r|)",
                "[a-cn ]{0,9}(\x1b\\[[0-9;]{0,3}[nm])?[nc ]{0,9}\n?",
                "[ -~äß\u{85}€]{0,600}",
            ], 0..900usize, 0..20u8),
            1..80,
        ),
    ) {
        let (mut at_once, linux, hello) = three();
        let (mut one_by_one, ..) = three();
        let ids = [SourceId::HYPERVISOR, linux, hello];
        for id in ids {
            at_once.keep(id, 1500).unwrap();
            one_by_one.keep(id, 1500).unwrap();
        }
        for (of, text, appetite, focus) in writes {
            if focus < 3 {
                at_once.give_input(ids[usize::from(focus)]);
                one_by_one.give_input(ids[usize::from(focus)]);
            }
            at_once.write(ids[of], text.as_bytes());
            for byte in text.bytes() {
                one_by_one.write(ids[of], &[byte]);
            }
            prop_assert_eq!(drain(&mut at_once, appetite), drain(&mut one_by_one, appetite));
        }
        prop_assert_eq!(drain(&mut at_once, usize::MAX), drain(&mut one_by_one, usize::MAX));
        for id in ids {
            let mut at = 0;
            while let Some((line, next)) = at_once.log(id, at) {
                prop_assert_eq!(one_by_one.log(id, at), Some((line, next)));
                at = next;
            }
            prop_assert_eq!(at_once.log_end(id), one_by_one.log_end(id));
        }
    }

    /// Any bytes at all: no panic, no share overrun, calm sources lose nothing, and the terminal gets no
    /// sequence that a source without the input wrote.
    #[test]
    fn hostile_bytes_do_no_harm(
        writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..600), 0..800usize), 1..60),
        focused in any::<bool>(),
    ) {
        let (mut console, linux, hello) = three();
        if focused {
            console.give_input(linux);
        }
        let (mut out, mut calm) = (Vec::new(), 0);
        for (by_linux, bytes, appetite) in writes {
            if by_linux {
                console.write(linux, &bytes);
            } else {
                console.write(hello, b"calm\n");
                calm += 1;
            }
            out.extend(drain(&mut console, appetite));
        }
        out.extend(drain(&mut console, usize::MAX));
        let shown = out.windows(13).filter(|window| window == b"hello| calm\r\n").count();
        prop_assert_eq!(shown, calm);
        prop_assert!(console.has_room(linux) && console.has_room(hello));
        if !focused {
            prop_assert!(!out.contains(&0x1b) && !out.contains(&0x07));
        }
    }
}

/// Memory is taken once for many sources, and what waits is kept as they come.
#[test]
fn room_is_reserved_for_all_at_once() {
    let mut console = Console::new("viaduct", 0, Switch::default()).unwrap();
    console.reserve(3, 4096).unwrap();
    console.write(SourceId::HYPERVISOR, b"first\n");
    let taken = console.output()[..3].to_vec();
    console.consumed(3);
    let added: Vec<SourceId> = (0..3)
        .map(|number| console.add(&format!("g{number}"), 4096).unwrap())
        .collect();
    console.write(added[2], b"last\n");
    let mut shown = taken;
    loop {
        let chunk = console.output().to_vec();
        if chunk.is_empty() {
            break;
        }
        console.consumed(chunk.len());
        shown.extend(chunk);
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(
        shown.contains("first") && shown.contains("g2| last"),
        "{shown}"
    );
}
