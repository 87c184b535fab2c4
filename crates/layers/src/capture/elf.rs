//! What an ELF file says about what it needs (elf(5)).

use std::fs::File;
use std::io::Read;

use elf::abi;
use elf::dynamic::DynamicTable;
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::{ElfStream, ParseError};

/// What a file's code runs on. A program and its libraries have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub bits: u8,
    pub number: u16,
}

impl Machine {
    /// Whether this host runs it.
    pub fn runs_here(self) -> bool {
        let (bits, number) = match std::env::consts::ARCH {
            "x86_64" => (64, abi::EM_X86_64),
            "aarch64" => (64, abi::EM_AARCH64),
            "x86" => (32, abi::EM_386),
            "arm" => (32, abi::EM_ARM),
            "riscv64" => (64, abi::EM_RISCV),
            "s390x" => (64, abi::EM_S390),
            "powerpc64" => (64, abi::EM_PPC64),
            "loongarch64" => (64, abi::EM_LOONGARCH),
            _ => return true,
        };
        self == Machine { bits, number } || (number == abi::EM_X86_64 && self.number == abi::EM_386)
    }

    /// What `$LIB` means in a search path on most distributions (ld.so(8)).
    pub fn lib(self) -> &'static str {
        if self.bits == 64 { "lib64" } else { "lib" }
    }

    /// What `$PLATFORM` means.
    pub fn platform(self) -> &'static str {
        match self.number {
            abi::EM_X86_64 => "x86_64",
            abi::EM_AARCH64 => "aarch64",
            abi::EM_386 => "i686",
            _ => "",
        }
    }

    /// Debian's directory for libraries of this machine, which its ld.so has built in.
    pub fn multiarch(self) -> Option<&'static str> {
        Some(match (self.number, self.bits) {
            (abi::EM_X86_64, 64) => "x86_64-linux-gnu",
            (abi::EM_386, _) => "i386-linux-gnu",
            (abi::EM_AARCH64, _) => "aarch64-linux-gnu",
            (abi::EM_ARM, _) => "arm-linux-gnueabihf",
            (abi::EM_RISCV, 64) => "riscv64-linux-gnu",
            (abi::EM_S390, 64) => "s390x-linux-gnu",
            (abi::EM_PPC64, _) => "powerpc64le-linux-gnu",
            _ => return None,
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match elf::to_str::e_machine_to_human_str(self.number) {
            Some(name) => write!(f, "{}-bit {name}", self.bits),
            None => write!(f, "{}-bit machine {}", self.bits, self.number),
        }
    }
}

/// A program or library, as far as loading it goes.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub machine: Machine,
    /// `PT_INTERP`: the dynamic loader. A static program has none.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`, as they stand there.
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
}

/// Reads what `file` needs; an error is in words.
pub(super) fn read(mut file: File) -> Result<Object, String> {
    let mut magic = [0u8; 4];
    let is_elf = file.read_exact(&mut magic).is_ok() && magic == abi::ELFMAGIC;
    if !is_elf {
        return Err("is not an ELF file".to_owned());
    }
    parse(file).map_err(|error| format!("is a broken ELF file: {error}"))
}

fn parse(file: File) -> Result<Object, ParseError> {
    let mut elf = ElfStream::<AnyEndian, File>::open_stream(file)?;
    let class = elf.ehdr.class;
    let endian = elf.ehdr.endianness;
    let bits = if class == Class::ELF64 { 64 } else { 32 };
    let machine = Machine { bits, number: elf.ehdr.e_machine };
    let mut object =
        Object { machine, interpreter: None, needed: Vec::new(), rpath: Vec::new(), runpath: Vec::new() };
    let segments = elf.segments().clone();
    if let Some(interp) = segments.iter().find(|segment| segment.p_type == abi::PT_INTERP) {
        let path = elf.segment_data(interp)?.split(|byte| *byte == 0).next().unwrap_or_default();
        object.interpreter = Some(String::from_utf8_lossy(path).into_owned());
    }
    let Some(dynamic) = segments.iter().find(|segment| segment.p_type == abi::PT_DYNAMIC) else {
        return Ok(object);
    };
    let entries: Vec<(i64, u64)> = DynamicTable::new(endian, class, elf.segment_data(dynamic)?)
        .iter()
        .take_while(|entry| entry.d_tag != abi::DT_NULL)
        .map(|entry| (entry.d_tag, entry.d_val()))
        .collect();
    let find = |tag: i64| entries.iter().find(|entry| entry.0 == tag).map(|entry| entry.1);
    let (Some(address), Some(size)) = (find(abi::DT_STRTAB), find(abi::DT_STRSZ)) else {
        return Ok(object);
    };
    // The table is given by its address in memory; the segment that is loaded there says where it is in the file.
    let loaded = segments.iter().find(|segment| {
        segment.p_type == abi::PT_LOAD
            && address >= segment.p_vaddr
            && address - segment.p_vaddr < segment.p_filesz
    });
    let Some(loaded) = loaded else { return Ok(object) };
    let mut table = *loaded;
    table.p_offset =
        loaded.p_offset.checked_add(address - loaded.p_vaddr).ok_or(ParseError::IntegerOverflow)?;
    table.p_filesz = size;
    let strings = elf.segment_data(&table)?;
    let text = |at: u64| {
        let rest = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
        String::from_utf8_lossy(rest.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    };
    let paths = |at: u64| -> Vec<String> {
        text(at).split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    };
    for (tag, value) in &entries {
        match *tag {
            abi::DT_NEEDED => object.needed.push(text(*value)),
            abi::DT_RPATH => object.rpath = paths(*value),
            abi::DT_RUNPATH => object.runpath = paths(*value),
            _ => {}
        }
    }
    Ok(object)
}
