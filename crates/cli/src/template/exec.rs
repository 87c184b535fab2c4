//! A template is executed on a value.

use super::funcs;
use super::node::{Branch, Command, List, Node, Number, Pipe, Word, WordKind};
use super::parse::Trees;
use super::print::plain;
use super::quote::quote;
use super::value::{Struct, Value};

/// How deep templates may call each other.
const DEEPEST: usize = 100;

pub(super) struct State<'t> {
    text: &'t str,
    trees: &'t Trees,
    out: &'t mut String,
    heading: bool,
    name: &'t str,
    variables: Vec<(&'t str, Value)>,
    at: At<'t>,
    depth: usize,
}

/// What is being evaluated, for errors.
#[derive(Clone, Copy)]
enum At<'t> {
    Start,
    Pipe(&'t Pipe),
    Word(&'t Word),
    Command(usize, &'t Command),
    Node(usize, &'t Node),
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) type Done<T> = Result<T, String>;

impl<'t> State<'t> {
    pub(super) fn run(
        text: &'t str,
        trees: &'t Trees,
        data: &Value,
        out: &'t mut String,
        heading: bool,
    ) -> Done<()> {
        let variables = vec![("$", data.clone())];
        let mut state = State { text, trees, out, heading, name: "", variables, at: At::Start, depth: 0 };
        let Some(list) = trees.get("") else { return Ok(()) };
        state.list(data, list).map(|_| ())
    }

    /// An error at the node that is being evaluated.
    fn fail<T>(&self, problem: impl std::fmt::Display) -> Done<T> {
        let (at, shown) = match self.at {
            At::Start => return Err(format!("template: {}: {problem}", self.name)),
            At::Pipe(pipe) => (pipe.at, pipe.to_string()),
            At::Word(word) => (word.at, word.to_string()),
            At::Command(at, command) => (at, command.to_string()),
            At::Node(at, node) => (at, node.to_string()),
        };
        let before = &self.text[..at];
        let line = 1 + before.matches('\n').count();
        let column = at - before.rfind('\n').unwrap_or(0);
        let name = quote(self.name);
        Err(format!("template: :{line}:{column}: executing {name} at <{shown}>: {problem}"))
    }

    fn list(&mut self, dot: &Value, list: &'t List) -> Done<Flow> {
        for node in list {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        self.print(&value)?;
                    }
                    Flow::Next
                }
                Node::If(branch) => self.choice(dot, branch, false)?,
                Node::With(branch) => self.choice(dot, branch, true)?,
                Node::Range(branch) => self.range(dot, branch)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Template { at, name, pipe } => {
                    self.call(dot, node, *at, name, pipe.as_ref())?;
                    Flow::Next
                }
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Done<()> {
        match value {
            Value::Nil => self.out.push_str("<no value>"),
            Value::Method(_) => return self.fail("can't print a method"),
            value => self.out.push_str(&plain(value)),
        }
        Ok(())
    }

    fn choice(&mut self, dot: &Value, branch: &'t Branch, moves_dot: bool) -> Done<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let flow = match (value.truth(), &branch.other) {
            (true, _) if moves_dot => self.list(&value, &branch.then)?,
            (true, _) => self.list(dot, &branch.then)?,
            (false, Some(other)) => self.list(dot, other)?,
            (false, None) => Flow::Next,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Done<Flow> {
        let outside = self.variables.len();
        let over = self.pipe(dot, &branch.pipe)?;
        let scope = self.variables.len();
        let pairs: Vec<(Value, Value)> = match over {
            Value::List(items) => {
                items.into_iter().enumerate().map(|(index, item)| (Value::from(index as u64), item)).collect()
            }
            Value::Map(entries) => entries.into_iter().map(|(key, item)| (Value::Text(key), item)).collect(),
            // A struct without a type is what Go would have as a map.
            Value::Struct(Struct { kind: "", mut fields }) => {
                fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                fields.into_iter().map(|(key, item)| (Value::Text(key), item)).collect()
            }
            Value::Int(count) if branch.pipe.variables.len() > 1 => {
                return self.fail(format!("can't use {count} to iterate over more than one variable"));
            }
            Value::Int(count) => (0..count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            Value::Nil | Value::NoList | Value::NoMap => Vec::new(),
            other => return self.fail(format!("range can't iterate over {}", plain(&other))),
        };
        if pairs.is_empty() {
            let flow = match &branch.other {
                Some(other) => self.list(dot, other)?,
                None => Flow::Next,
            };
            self.variables.truncate(outside);
            return Ok(flow);
        }
        for (key, item) in pairs {
            let (first, second) = match branch.pipe.variables.len() {
                1 => (Some(&item), None),
                2 => (Some(&key), Some(&item)),
                _ => (None, None),
            };
            for (name, value) in branch.pipe.variables.iter().zip([first, second].into_iter().flatten()) {
                if branch.pipe.assigns {
                    self.assign(name, value.clone())?;
                } else if let Some(known) =
                    self.variables[..scope].iter_mut().rev().find(|(known, _)| known == name)
                {
                    known.1 = value.clone();
                }
            }
            let flow = self.list(&item, &branch.then)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        self.variables.truncate(outside);
        Ok(Flow::Next)
    }

    fn call(
        &mut self,
        dot: &Value,
        node: &'t Node,
        at: usize,
        name: &'t str,
        pipe: Option<&'t Pipe>,
    ) -> Done<()> {
        self.at = At::Node(at, node);
        let Some(list) = self.trees.get(name) else {
            return self.fail(format!("template {} not defined", quote(name)));
        };
        if self.depth == DEEPEST {
            return self.fail(format!("exceeded maximum template depth ({DEEPEST})"));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let outside = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let caller = std::mem::replace(&mut self.name, name);
        self.depth += 1;
        self.list(&dot, list)?;
        self.depth -= 1;
        (self.variables, self.name) = (outside, caller);
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) -> Done<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => return self.fail(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Done<Value> {
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            match pipe.assigns {
                true => self.assign(name, value.clone())?,
                false => self.variables.push((name, value.clone())),
            }
        }
        Ok(value)
    }

    /// `last` is what came out of the command before.
    fn command(&mut self, dot: &Value, command: &'t Command, last: Option<Value>) -> Done<Value> {
        let Some((first, rest)) = command.words.split_first() else { return Ok(Value::Nil) };
        let applied = !rest.is_empty() || last.is_some();
        match &first.kind {
            WordKind::Function(name) => {
                self.at = At::Word(first);
                return self.function(dot, Some(command), first, name, last);
            }
            WordKind::Field(names) => {
                self.at = At::Word(first);
                return self.fields(dot, dot.clone(), names, rest, last);
            }
            WordKind::Variable(names) if names.len() > 1 => {
                self.at = At::Word(first);
                let value = self.variable(&names[0])?;
                return self.fields(dot, value, &names[1..], rest, last);
            }
            WordKind::Chain(of, names) => {
                self.at = At::Word(first);
                if let WordKind::Nil = of.kind {
                    return self.fail(format!("indirection through explicit nil in {first}"));
                }
                let value = self.word(dot, of)?;
                return self.fields(dot, value, names, rest, last);
            }
            WordKind::Pipe(_) | WordKind::Variable(_) => {}
            _ => self.at = At::Word(first),
        }
        if applied {
            return self.fail(format!("can't give argument to non-function {first}"));
        }
        match &first.kind {
            WordKind::Nil => self.fail("nil is not a command"),
            _ => self.word(dot, first),
        }
    }

    /// A word on its own.
    fn word(&mut self, dot: &Value, word: &'t Word) -> Done<Value> {
        self.at = At::Word(word);
        match &word.kind {
            WordKind::Dot => Ok(dot.clone()),
            WordKind::Nil => Ok(Value::Nil),
            WordKind::Bool(yes) => Ok(Value::Bool(*yes)),
            WordKind::Text { text, .. } => Ok(Value::Text(text.clone())),
            WordKind::Number(number) => self.number(number),
            WordKind::Variable(names) => {
                let value = self.variable(&names[0])?;
                self.fields(dot, value, &names[1..], &[], None)
            }
            WordKind::Field(names) => self.fields(dot, dot.clone(), names, &[], None),
            WordKind::Chain(of, names) => {
                let value = self.word(dot, of)?;
                self.fields(dot, value, names, &[], None)
            }
            WordKind::Function(name) => self.function(dot, None, word, name, None),
            WordKind::Pipe(pipe) => self.pipe(dot, pipe),
        }
    }

    fn number(&self, number: &Number) -> Done<Value> {
        match (number.whole, number.float) {
            (_, Some(float)) if number.is_float() => Ok(Value::Float(float)),
            (Some(whole), _) => Ok(Value::Int(whole)),
            _ => self.fail(format!("integer overflow: {}", quote(&number.written))),
        }
    }

    fn variable(&self, name: &str) -> Done<Value> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    /// `value.name.name`; arguments are the last one's. Beyond an entry that a map has not there is nothing.
    fn fields(
        &mut self,
        dot: &Value,
        value: Value,
        names: &[String],
        rest: &'t [Word],
        last: Option<Value>,
    ) -> Done<Value> {
        let mut value = value;
        for (index, name) in names.iter().enumerate() {
            let applied = index + 1 == names.len() && (!rest.is_empty() || last.is_some());
            // Only a method's arguments are looked at.
            let method = matches!(value.entry(name), Some(Value::Method(_)));
            let arguments = match applied {
                true if method => {
                    let words: Done<Vec<Value>> = rest.iter().map(|word| self.word(dot, word)).collect();
                    Some(words?.into_iter().chain(last.clone()).collect::<Vec<_>>())
                }
                true => Some(Vec::new()),
                false => None,
            };
            match self.field(&value, name, arguments.as_deref())? {
                Some(found) => value = found,
                None => return Ok(Value::Nil),
            }
        }
        Ok(value)
    }

    /// `None`: a map without the entry.
    fn field(&self, of: &Value, name: &str, arguments: Option<&[Value]>) -> Done<Option<Value>> {
        let found = match of {
            Value::Struct(fields) => match fields.get(name) {
                Some(found) => Some(found),
                None if fields.kind.is_empty() => {
                    return self.fail(format!("map has no entry for key {}", quote(name)));
                }
                None => return self.fail(format!("can't evaluate field {name} in type {}", fields.kind)),
            },
            Value::Map(entries) => entries.get(name),
            Value::NoMap => None,
            Value::Nil => return self.fail(format!("nil pointer evaluating interface {{}}.{name}")),
            _ => return self.fail(format!("can't evaluate field {name} in type interface {{}}")),
        };
        match (found, arguments) {
            (Some(Value::Method(method)), Some([Value::Text(key)])) => Ok(Some(method.call(key).into())),
            (Some(Value::Method(_)), Some([other])) => {
                self.fail(format!("wrong type for value; expected string; got {}", other.kind()))
            }
            (Some(Value::Method(_)), arguments) => {
                let got = arguments.map_or(0, <[Value]>::len);
                self.fail(format!("wrong number of args for {name}: want 1 got {got}"))
            }
            (_, Some(_)) => match of {
                Value::Struct(Struct { kind, .. }) if !kind.is_empty() => {
                    self.fail(format!("{name} has arguments but cannot be invoked as function"))
                }
                _ => self.fail(format!("{name} is not a method but has arguments")),
            },
            (found, None) => Ok(found.cloned()),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        command: Option<&'t Command>,
        word: &'t Word,
        name: &'t str,
        last: Option<Value>,
    ) -> Done<Value> {
        let rest = command.map_or(&[][..], |command| &command.words[1..]);
        let count = rest.len() + usize::from(last.is_some());
        if let Err(problem) = funcs::count(name, count) {
            return self.fail(problem);
        }
        let mut arguments = Vec::with_capacity(count);
        for word in rest {
            let value = self.word(dot, word)?;
            // The others are not evaluated where the first ones decide.
            if matches!(name, "and" | "or") && value.truth() == (name == "or") {
                return Ok(value);
            }
            if let Some(problem) = funcs::mismatch(name, arguments.len(), &value) {
                self.at = At::Word(word);
                return self.fail(match word.kind {
                    WordKind::Number(_) | WordKind::Text { .. } | WordKind::Bool(_) => {
                        let expected = if problem.expected == "int" { "integer" } else { problem.expected };
                        format!("expected {expected}; found {word}")
                    }
                    WordKind::Nil => format!("cannot assign nil to {}", problem.expected),
                    _ => problem.to_string(),
                });
            }
            arguments.push(value);
        }
        let whole = command.map_or(At::Word(word), |command| At::Command(word.at, command));
        if let Some(last) = last {
            if let Some(problem) = funcs::mismatch(name, arguments.len(), &last) {
                self.at = whole;
                return self.fail(problem);
            }
            arguments.push(last);
        }
        if self.heading && matches!(name, "json" | "title" | "lower" | "upper" | "truncate") {
            return Ok(arguments.swap_remove(0));
        }
        funcs::call(name, &arguments).or_else(|problem| {
            self.at = whole;
            match (name, rest.first()) {
                // It tells what it was to call.
                ("call", Some(what)) => {
                    let kind = arguments[0].kind();
                    self.fail(format!("error calling call: non-function {what} of type {kind}"))
                }
                _ => self.fail(format!("error calling {name}: {problem}")),
            }
        })
    }
}
