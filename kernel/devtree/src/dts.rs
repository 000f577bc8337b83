//! For tests only: trees from source text, as much of the language as these tests use, and the damage that
//! QEMU and others do to trees.

use std::ops::Range;

use vm_fdt::{FdtReserveEntry, FdtWriter};

enum Statement {
    Property(String, Vec<u8>),
    Node(String, Vec<Statement>),
}

struct Source<'s> {
    rest: &'s str,
}

impl Source<'_> {
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix("/*") {
                self.rest = rest.split_once("*/").unwrap().1;
            } else {
                return;
            }
        }
    }

    fn accept(&mut self, token: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) {
        let start: String = self.rest.chars().take(60).collect();
        assert!(self.accept(token), "expected {token} at {start}");
    }

    fn word(&mut self) -> String {
        self.skip_space();
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || ";={}<>[]".contains(c))
            .unwrap();
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_string()
    }

    fn number(&mut self) -> u64 {
        let word = self.word();
        match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
            None => word.parse().unwrap(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            if self.accept("\"") {
                let (text, rest) = self.rest.split_once('"').unwrap();
                bytes.extend(text.replace("\\0", "\0").bytes());
                bytes.push(0);
                self.rest = rest;
            } else if self.accept("[") {
                while !self.accept("]") {
                    bytes.push(u8::from_str_radix(&self.word(), 16).unwrap());
                }
            } else {
                self.expect("<");
                while !self.accept(">") {
                    bytes.extend(u32::try_from(self.number()).unwrap().to_be_bytes());
                }
            }
            if !self.accept(",") {
                return bytes;
            }
        }
    }

    fn body(&mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        while !self.accept("}") {
            let name = self.word();
            if self.accept("{") {
                statements.push(Statement::Node(name, self.body()));
                continue;
            }
            let value = if self.accept("=") {
                self.value()
            } else {
                Vec::new()
            };
            self.expect(";");
            statements.push(Statement::Property(name, value));
        }
        self.expect(";");
        statements
    }
}

fn write(tree: &mut FdtWriter, name: &str, body: &[Statement]) {
    let node = tree.begin_node(name).unwrap();
    for statement in body {
        match statement {
            Statement::Property(name, value) => tree.property(name, value).unwrap(),
            Statement::Node(name, body) => write(tree, name, body),
        }
    }
    tree.end_node(node).unwrap();
}

/// Compiles a tree.
pub(crate) fn compile(source: &str) -> Vec<u8> {
    let mut source = Source { rest: source };
    source.accept("/dts-v1/;");
    let mut reservations = Vec::new();
    while source.accept("/memreserve/") {
        let (address, size) = (source.number(), source.number());
        reservations.push(FdtReserveEntry::new(address, size).unwrap());
        source.expect(";");
    }
    source.expect("/");
    source.expect("{");
    let mut tree = FdtWriter::new_with_mem_reserv(&reservations).unwrap();
    write(&mut tree, "", &source.body());
    tree.finish().unwrap()
}

fn word(tree: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(tree[offset..offset + 4].try_into().unwrap())
}

/// Writes NOPs over a node and all that is in it.
pub(crate) fn blank_node(tree: &mut [u8], name: &str) {
    let structure = word(tree, 8) as usize;
    let mut wanted = name.as_bytes().to_vec();
    wanted.resize((name.len() + 4) & !3, 0);
    let begin = (structure..tree.len())
        .step_by(4)
        .find(|&at| word(tree, at) == 1 && tree[at + 4..].starts_with(&wanted));
    let begin = begin.unwrap();
    let (mut at, mut depth) = (begin, 0);
    loop {
        let token = word(tree, at);
        at += 4;
        match token {
            1 => {
                depth += 1;
                let length = tree[at..].iter().position(|&byte| byte == 0).unwrap();
                at += (length + 4) & !3;
            }
            2 => depth -= 1,
            3 => at += 8 + ((word(tree, at) as usize + 3) & !3),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    for word in tree[begin..at].chunks_exact_mut(4) {
        word.copy_from_slice(&4_u32.to_be_bytes());
    }
}

/// Where the properties of a sound tree are: the offset of the word with the name's offset, and the value's range.
pub(crate) fn properties(tree: &[u8]) -> Vec<(usize, Range<usize>)> {
    let mut at = word(tree, 8) as usize;
    let mut found = Vec::new();
    loop {
        let token = word(tree, at);
        at += 4;
        match token {
            1 => {
                let length = tree[at..].iter().position(|&byte| byte == 0).unwrap();
                at += (length + 4) & !3;
            }
            3 => {
                let size = word(tree, at) as usize;
                found.push((at + 4, at + 8..at + 8 + size));
                at += 8 + ((size + 3) & !3);
            }
            9 => return found,
            _ => {}
        }
    }
}
