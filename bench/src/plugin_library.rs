//! A Geyser plugin from a shared object, by the same steps as the validator: `dlopen`, `_create_plugin`, `setup_logger`,
//! `on_load`; and back: `on_unload`, drop, `dlclose`.
//!
//! The validator checks nothing before it calls into the object, and a plugin of another compiler then dies by SIGSEGV. This
//! host reads both compilers from the ELF `.comment` sections first and refuses with both names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::GeyserPlugin;
use libloading::Library;
use object::{Object, ObjectSection};

/// Why a plugin was not taken. Retrying does not help; each message names the fix.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "plugin {0}: no such file. Fix: build it (cargo build -p geyser-plugin) or name it by --plugin"
    )]
    Missing(PathBuf),
    #[error("plugin {path}: {problem}. Fix: give a Geyser plugin built for Linux on this machine")]
    NotAPlugin { path: PathBuf, problem: String },
    #[error(
        "plugin {path}: built by {plugin}, this host by {host}; the interface has the Rust ABI. \
         Fix: build both with the compiler of rust-toolchain.toml"
    )]
    OtherCompiler {
        path: PathBuf,
        plugin: String,
        host: String,
    },
    #[error("configuration {0}: no such file. Fix: name the plugin's configuration by --config")]
    MissingConfig(PathBuf),
    #[error("plugin {name} refused to load with {config}: {reason}")]
    Refused {
        name: String,
        config: PathBuf,
        reason: String,
    },
}

/// A plugin that is ready for callbacks until it is dropped.
#[derive(Debug)]
pub struct LoadedPlugin {
    // The order of these fields is the order of their drop: the plugin's code must be mapped while the plugin is dropped.
    plugin: Box<dyn GeyserPlugin>,
    _library: Option<Library>,
    /// Whether `on_load` succeeded; only then is `on_unload` due.
    loaded: bool,
}

impl LoadedPlugin {
    /// Loads the shared object at `path` and hands it the configuration file.
    pub fn open(path: &Path, config: &Path) -> Result<Self, LoadError> {
        if !path.is_file() {
            return Err(LoadError::Missing(path.into()));
        }
        if !config.is_file() {
            return Err(LoadError::MissingConfig(config.into()));
        }
        same_compiler(path)?;
        let (plugin, library) = create(path)?;
        Self {
            plugin,
            _library: Some(library),
            loaded: false,
        }
        .load(config)
    }

    /// Takes a plugin of this very program, for tests and for measuring the host alone.
    pub fn in_process(plugin: Box<dyn GeyserPlugin>) -> Self {
        Self {
            plugin,
            _library: None,
            loaded: true,
        }
    }

    pub fn get(&self) -> &dyn GeyserPlugin {
        &*self.plugin
    }

    fn load(mut self, config: &Path) -> Result<Self, LoadError> {
        let refused = |name: &str, reason: String| LoadError::Refused {
            name: name.into(),
            config: config.into(),
            reason,
        };
        self.plugin
            .setup_logger(log::logger(), log::max_level())
            .map_err(|e| refused(self.plugin.name(), e.to_string()))?;
        let outcome = self.plugin.on_load(&config.to_string_lossy(), false);
        outcome.map_err(|e| refused(self.plugin.name(), e.to_string()))?;
        self.loaded = true;
        Ok(self)
    }
}

impl Drop for LoadedPlugin {
    fn drop(&mut self) {
        if self.loaded {
            self.plugin.on_unload();
        }
    }
}

fn same_compiler(path: &Path) -> Result<(), LoadError> {
    let unreadable = |problem: String| LoadError::NotAPlugin {
        path: path.into(),
        problem,
    };
    let plugin = compiler_of(path).map_err(unreadable)?;
    let host = std::env::current_exe()
        .map_err(|e| e.to_string())
        .and_then(|exe| compiler_of(&exe))
        .map_err(|e| unreadable(format!("the host's own compiler is unknown: {e}")))?;
    if plugin != host {
        return Err(LoadError::OtherCompiler {
            path: path.into(),
            plugin,
            host,
        });
    }
    Ok(())
}

/// The `rustc version …` that the compiler leaves in an object's `.comment` section.
fn compiler_of(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let object = object::File::parse(&*bytes).map_err(|e| format!("not an object file: {e}"))?;
    let section = object
        .section_by_name(".comment")
        .ok_or("no .comment section, so its compiler is unknown")?;
    let data = section.data().map_err(|e| format!(".comment: {e}"))?;
    data.split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .find(|text| text.starts_with("rustc version"))
        .map(|text| text.into_owned())
        .ok_or_else(|| "not compiled by rustc".into())
}

#[allow(unsafe_code)]
fn create(path: &Path) -> Result<(Box<dyn GeyserPlugin>, Library), LoadError> {
    type CreatePlugin = unsafe fn() -> *mut dyn GeyserPlugin;
    let not_a_plugin = |problem: String| LoadError::NotAPlugin {
        path: path.into(),
        problem,
    };
    // SAFETY: loading runs the object's initialisers. The caller names the object to run, as an operator does in the
    // validator's configuration, and `same_compiler` has told that it is a Rust library of this compiler.
    let library = unsafe { Library::new(path) }.map_err(|e| not_a_plugin(e.to_string()))?;
    // SAFETY: `_create_plugin` of a Geyser plugin has this signature; the interface fixes it by its name.
    let constructor = unsafe { library.get::<CreatePlugin>(b"_create_plugin") }
        .map_err(|e| not_a_plugin(format!("no Geyser plugin in it: {e}")))?;
    // SAFETY: the constructor takes nothing and may be called at any time; both sides agree on the Rust ABI (see above).
    let raw = unsafe { constructor() };
    if raw.is_null() {
        return Err(not_a_plugin("_create_plugin returned nothing".into()));
    }
    // SAFETY: by the interface's contract the pointer comes from `Box::into_raw` and ownership passes to the host. Both
    // sides use the system allocator, and the library outlives the box (see the order of `LoadedPlugin`'s fields).
    Ok((unsafe { Box::from_raw(raw) }, library))
}
