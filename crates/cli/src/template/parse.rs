//! Tokens become a tree (Go's text/template, "Actions", "Pipelines", "Variables", "Nested template definitions").

use std::collections::BTreeMap;

use super::lex::{Kind, Token, tokens};
use super::node::{Branch, Command, List, Node, Number, Pipe, Word, WordKind};
use super::{funcs, quote};

/// A template and those that are defined in it, by name; it itself is the empty one.
pub(super) type Trees = BTreeMap<String, List>;

/// Why a text is no template, as Go says it.
pub(super) fn parse(text: &str) -> Result<Trees, String> {
    let mut parser = Parser {
        tokens: tokens(text),
        next: 0,
        action_line: 0,
        variables: vec!["$".into()],
        ranges: 0,
        trees: Trees::new(),
    };
    parser.template().map_err(|problem| format!("template: :{}: {problem}", parser.last().line))?;
    Ok(parser.trees)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    action_line: usize,
    /// In scope here.
    variables: Vec<String>,
    ranges: usize,
    trees: Trees,
}

type Parsed<T> = Result<T, String>;

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    File,
    Else,
    End,
}

impl Parser {
    /// The last token that was looked at.
    fn last(&self) -> &Token {
        &self.tokens[self.next.saturating_sub(1).min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len());
        token
    }

    fn skip_space(&mut self) {
        if self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn peek_word(&mut self) -> &Token {
        self.skip_space();
        self.peek()
    }

    fn take_word(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.take_word();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(&token, context)) }
    }

    fn unexpected(&self, token: &Token, context: &str) -> String {
        if token.kind != Kind::Error {
            return format!("unexpected {token} in {context}");
        }
        match self.action_line != 0 && self.action_line != token.line {
            true => {
                let started = format!(" in action started at :{}", self.action_line);
                let began = token.text.ends_with(" action");
                format!("{token}{}", if began { started.trim_start_matches(" in action") } else { &started })
            }
            false => token.to_string(),
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let token = self.peek_word();
        token.kind == Kind::Keyword && token.text == word
    }

    fn template(&mut self) -> Parsed<()> {
        let mut list = List::new();
        loop {
            if self.peek().kind == Kind::LeftDelim {
                let before = self.next;
                self.take();
                if self.keyword("define") {
                    self.take();
                    self.definition("define clause")?;
                    continue;
                }
                self.next = before;
            }
            match self.list(&mut list, true)? {
                Ended::File => break,
                Ended::End => return Err("unexpected {{end}}".into()),
                Ended::Else => return Err("unexpected {{else}}".into()),
            }
        }
        let blank = list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        if !blank || !self.trees.contains_key("") {
            self.trees.insert(String::new(), list);
        }
        Ok(())
    }

    /// `"name"}} … {{end}}`.
    fn definition(&mut self, context: &str) -> Parsed<()> {
        let name = self.template_name(context)?;
        self.expect(Kind::RightDelim, context)?;
        let outside = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let mut list = List::new();
        match self.list(&mut list, false)? {
            Ended::End => {}
            _ => return Err(format!("unexpected {{{{else}}}} in {context}")),
        }
        (self.variables, self.ranges) = (outside, ranges);
        self.trees.insert(name, list);
        Ok(())
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        let token = self.take_word();
        match token.kind {
            Kind::Quoted => quote::unquote(&token.text).ok_or_else(|| "invalid syntax".into()),
            Kind::Raw => Ok(token.text.trim_matches('`').to_owned()),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    /// Nodes to the next `{{end}}` or `{{else}}`, whose rest is not read yet where it is an else. At the top a
    /// definition ends it, too.
    fn list(&mut self, list: &mut List, top: bool) -> Parsed<Ended> {
        loop {
            let token = self.take_word();
            match token.kind {
                Kind::Text => list.push(Node::Text(token.text)),
                Kind::LeftDelim => {
                    self.action_line = token.line;
                    if top && self.keyword("define") {
                        self.take();
                        self.definition("define clause")?;
                        continue;
                    }
                    if let Some(ended) = self.action(list)? {
                        return Ok(ended);
                    }
                    self.action_line = 0;
                }
                Kind::End if top => return Ok(Ended::File),
                Kind::End => return Err("unexpected EOF".into()),
                _ => return Err(self.unexpected(&token, "input")),
            }
        }
    }

    /// What is after `{{`.
    fn action(&mut self, list: &mut List) -> Parsed<Option<Ended>> {
        let token = self.peek_word().clone();
        if token.kind != Kind::Keyword {
            list.push(Node::Action(self.pipeline("command", Kind::RightDelim)?));
            return Ok(None);
        }
        self.take();
        match token.text.as_str() {
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Some(Ended::End));
            }
            "else" => {
                if !self.keyword("if") && !self.keyword("with") {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Some(Ended::Else));
            }
            "if" => list.push(Node::If(self.branch("if")?)),
            "with" => list.push(Node::With(self.branch("with")?)),
            "range" => list.push(Node::Range(self.branch("range")?)),
            word @ ("break" | "continue") => {
                let after = self.take_word();
                if after.kind != Kind::RightDelim {
                    return Err(self.unexpected(&after, &format!("{{{{{word}}}}}")));
                }
                if self.ranges == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                list.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            "template" => list.push(self.call("template clause")?),
            "block" => {
                let call = self.call("block clause")?;
                let Node::Template { name, .. } = &call else { return Ok(None) };
                let outside = std::mem::replace(&mut self.variables, vec!["$".into()]);
                let mut inner = List::new();
                if self.list(&mut inner, false)? != Ended::End {
                    return Err("unexpected {{else}} in block clause".into());
                }
                self.variables = outside;
                self.trees.insert(name.clone(), inner);
                list.push(call);
            }
            _ => return Err(self.unexpected(&token, "command")),
        }
        Ok(None)
    }

    fn call(&mut self, context: &str) -> Parsed<Node> {
        let at = self.peek_word().at;
        let name = self.template_name(context)?;
        let pipe = if self.peek_word().kind == Kind::RightDelim {
            self.take();
            if context.starts_with("block") {
                return Err(format!("missing value for {context}"));
            }
            None
        } else {
            Some(self.pipeline(context, Kind::RightDelim)?)
        };
        Ok(Node::Template { at, name, pipe })
    }

    fn branch(&mut self, context: &str) -> Parsed<Branch> {
        let scope = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let looping = usize::from(context == "range");
        self.ranges += looping;
        let mut then = List::new();
        let ended = self.list(&mut then, false)?;
        self.ranges -= looping;
        let mut other = None;
        if ended == Ended::Else {
            let mut list = List::new();
            if context == "if" && self.keyword("if") {
                self.take();
                list.push(Node::If(self.branch("if")?));
            } else if context == "with" && self.keyword("with") {
                self.take();
                list.push(Node::With(self.branch("with")?));
            } else if self.list(&mut list, false)? == Ended::Else {
                return Err("expected end; found {{else}}".into());
            }
            other = Some(list);
        }
        self.variables.truncate(scope);
        Ok(Branch { pipe, then, other })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let at = self.peek_word().at;
        let mut pipe = Pipe { at, assigns: false, variables: Vec::new(), commands: Vec::new() };
        while self.peek_word().kind == Kind::Variable {
            let before = self.next;
            let variable = self.take();
            let then = self.peek_word().clone();
            match then.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.assigns = then.kind == Kind::Assign;
                    self.variables.push(variable.text.clone());
                    pipe.variables.push(variable.text);
                    break;
                }
                Kind::Other if then.text == "," => {
                    self.take();
                    self.variables.push(variable.text.clone());
                    pipe.variables.push(variable.text);
                    if context != "range" || pipe.variables.len() > 1 {
                        return Err(format!("too many declarations in {context}"));
                    }
                    if self.peek_word().kind != Kind::Variable {
                        return Err("range can only initialize variables".into());
                    }
                }
                _ => {
                    self.next = before;
                    break;
                }
            }
        }
        loop {
            let token = self.peek_word().clone();
            if token.kind == end {
                self.take();
                check(&pipe, context)?;
                return Ok(pipe);
            }
            match token.kind {
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                _ => {
                    self.take();
                    return Err(self.unexpected(&token, context));
                }
            }
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut words = Vec::new();
        loop {
            self.skip_space();
            words.extend(self.operand()?);
            let token = self.peek().clone();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => {}
                Kind::Pipe => {
                    self.take();
                }
                _ => {
                    self.take();
                    return Err(self.unexpected(&token, "operand"));
                }
            }
            if words.is_empty() {
                return Err("empty command".into());
            }
            return Ok(Command { words });
        }
    }

    /// A term and the fields right after it.
    fn operand(&mut self) -> Parsed<Option<Word>> {
        let Some(mut word) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(word));
        }
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.take().text[1..].to_owned());
        }
        match &mut word.kind {
            // One node with all the names, where the second begins: that is the column that Go tells.
            WordKind::Field(names) | WordKind::Variable(names) => {
                names.extend(fields);
                word.at = at;
                Ok(Some(word))
            }
            WordKind::Bool(_)
            | WordKind::Text { .. }
            | WordKind::Number(_)
            | WordKind::Nil
            | WordKind::Dot => Err(format!("unexpected . after term {}", quote::quote(&word.to_string()))),
            _ => Ok(Some(Word { at, kind: WordKind::Chain(Box::new(word), fields) })),
        }
    }

    fn term(&mut self) -> Parsed<Option<Word>> {
        let token = self.peek_word().clone();
        let kind = match token.kind {
            Kind::Identifier if !funcs::is_known(&token.text) => {
                self.take();
                return Err(format!("function {} not defined", quote::quote(&token.text)));
            }
            Kind::Identifier => WordKind::Function(token.text),
            Kind::Dot => WordKind::Dot,
            Kind::Nil => WordKind::Nil,
            Kind::Bool => WordKind::Bool(token.text == "true"),
            Kind::Variable if !self.variables.contains(&token.text) => {
                self.take();
                return Err(format!("undefined variable {}", quote::quote(&token.text)));
            }
            Kind::Variable => WordKind::Variable(vec![token.text]),
            Kind::Field => WordKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Char => {
                let text = quote::unquote(&token.text);
                let mut chars = text.iter().flat_map(|text| text.chars());
                let (Some(char), None) = (chars.next(), chars.next()) else {
                    self.take();
                    return Err(format!("malformed character constant: {}", token.text));
                };
                WordKind::Number(Number {
                    written: token.text,
                    whole: Some(i64::from(u32::from(char))),
                    float: None,
                })
            }
            Kind::Number => match Number::of(&token.text) {
                Some(number) if number.whole.is_none() && !number.is_float() => {
                    return Err(format!("integer overflow: {}", quote::quote(&token.text)));
                }
                Some(number) => WordKind::Number(number),
                None => return Err(format!("illegal number syntax: {}", quote::quote(&token.text))),
            },
            Kind::Quoted => match quote::unquote(&token.text) {
                Some(text) => WordKind::Text { written: token.text, text },
                None => return Err("invalid syntax".into()),
            },
            Kind::Raw => {
                let text = token.text[1..token.text.len() - 1].replace('\r', "");
                WordKind::Text { written: token.text, text }
            }
            Kind::LeftParen => {
                self.take();
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                return Ok(Some(Word { at: token.at, kind: WordKind::Pipe(pipe) }));
            }
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Word { at: token.at, kind }))
    }
}

/// A pipeline has commands, and only the first one may be a constant.
fn check(pipe: &Pipe, context: &str) -> Parsed<()> {
    if pipe.commands.is_empty() {
        return Err(format!("missing value for {context}"));
    }
    for (index, command) in pipe.commands.iter().enumerate().skip(1) {
        let constant = command.words.first().is_some_and(|word| {
            matches!(
                word.kind,
                WordKind::Bool(_)
                    | WordKind::Dot
                    | WordKind::Nil
                    | WordKind::Number(_)
                    | WordKind::Text { .. }
            )
        });
        if constant {
            return Err(format!("non executable command in pipeline stage {}", index + 1));
        }
    }
    Ok(())
}
