//! What only people do, and the log tells of.

use super::Event;

impl Event {
    /// A value was stored.
    pub const SECRET_SET: Self = Self("secret.set");
    /// A value was stored in the place of an older one.
    pub const SECRET_ROTATE: Self = Self("secret.rotate");
    /// A version was revoked, its value wiped.
    pub const SECRET_REVOKE: Self = Self("secret.revoke");
    /// A version that no run needs any more was removed.
    pub const SECRET_RETIRE: Self = Self("secret.retire");
    /// A secret was removed.
    pub const SECRET_REMOVE: Self = Self("secret.remove");
    /// A scope was changed.
    pub const SECRET_SCOPE: Self = Self("secret.scope");
    /// A rotation schedule was changed.
    pub const SECRET_SCHEDULE: Self = Self("secret.schedule");
    /// A key slot was filled.
    pub const KEY_ADD: Self = Self("key.add");
    /// A key slot was emptied.
    pub const KEY_REMOVE: Self = Self("key.remove");
    /// The vault was sealed anew under another root key.
    pub const KEY_ROTATE: Self = Self("key.rotate");
    /// A chain's definition was approved.
    pub const CHAIN_APPROVE: Self = Self("chain.approve");
    /// A run was begun by hand.
    pub const RUN_START: Self = Self("run.start");
    /// A run was ended by hand.
    pub const RUN_END: Self = Self("run.end");
    /// An instance was made.
    pub const INSTANCE_INIT: Self = Self("instance.init");
    /// Whole months at the beginning were removed.
    pub const LOG_PRUNED: Self = Self("log.pruned");
}
