//! The name inside a transaction's error bytes: bincode of Solana's `TransactionError`. Pure.

/// A decoded failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// Variant names, `InstructionError:Custom` for a nested one; `unknown` when the bytes say nothing known.
    pub name: String,
    pub instruction: Option<u8>,
    pub custom: Option<u32>,
}

const TRANSACTION: &[&str] = &[
    "AccountInUse",
    "AccountLoadedTwice",
    "AccountNotFound",
    "ProgramAccountNotFound",
    "InsufficientFundsForFee",
    "InvalidAccountForFee",
    "AlreadyProcessed",
    "BlockhashNotFound",
    "InstructionError",
    "CallChainTooDeep",
    "MissingSignatureForFee",
    "InvalidAccountIndex",
    "SignatureFailure",
    "InvalidProgramForExecution",
    "SanitizeFailure",
    "ClusterMaintenance",
    "AccountBorrowOutstanding",
    "WouldExceedMaxBlockCostLimit",
    "UnsupportedVersion",
    "InvalidWritableAccount",
    "WouldExceedMaxAccountCostLimit",
    "WouldExceedAccountDataBlockLimit",
    "TooManyAccountLocks",
    "AddressLookupTableNotFound",
    "InvalidAddressLookupTableOwner",
    "InvalidAddressLookupTableData",
    "InvalidAddressLookupTableIndex",
    "InvalidRentPayingAccount",
    "WouldExceedMaxVoteCostLimit",
    "WouldExceedAccountDataTotalLimit",
    "DuplicateInstruction",
    "InsufficientFundsForRent",
    "MaxLoadedAccountsDataSizeExceeded",
    "InvalidLoadedAccountsDataSizeLimit",
    "ResanitizationNeeded",
    "ProgramExecutionTemporarilyRestricted",
    "UnbalancedTransaction",
    "ProgramCacheHitMaxLimit",
    "CommitCancelled",
];
const INSTRUCTION_ERROR: usize = 8;

const INSTRUCTION: &[&str] = &[
    "GenericError",
    "InvalidArgument",
    "InvalidInstructionData",
    "InvalidAccountData",
    "AccountDataTooSmall",
    "InsufficientFunds",
    "IncorrectProgramId",
    "MissingRequiredSignature",
    "AccountAlreadyInitialized",
    "UninitializedAccount",
    "UnbalancedInstruction",
    "ModifiedProgramId",
    "ExternalAccountLamportSpend",
    "ExternalAccountDataModified",
    "ReadonlyLamportChange",
    "ReadonlyDataModified",
    "DuplicateAccountIndex",
    "ExecutableModified",
    "RentEpochModified",
    "NotEnoughAccountKeys",
    "AccountDataSizeChanged",
    "AccountNotExecutable",
    "AccountBorrowFailed",
    "AccountBorrowOutstanding",
    "DuplicateAccountOutOfSync",
    "Custom",
    "InvalidError",
    "ExecutableDataModified",
    "ExecutableLamportChange",
    "ExecutableAccountNotRentExempt",
    "UnsupportedProgramId",
    "CallDepth",
    "MissingAccount",
    "ReentrancyNotAllowed",
    "MaxSeedLengthExceeded",
    "InvalidSeeds",
    "InvalidRealloc",
    "ComputationalBudgetExceeded",
    "PrivilegeEscalation",
    "ProgramEnvironmentSetupFailure",
    "ProgramFailedToComplete",
    "ProgramFailedToCompile",
    "Immutable",
    "IncorrectAuthority",
    "BorshIoError",
    "AccountNotRentExempt",
    "InvalidAccountOwner",
    "ArithmeticOverflow",
    "UnsupportedSysvar",
    "IllegalOwner",
    "MaxAccountsDataAllocationsExceeded",
    "MaxAccountsExceeded",
    "MaxInstructionTraceLengthExceeded",
    "BuiltinProgramsMustConsumeComputeUnits",
];
const CUSTOM: usize = 25;

pub fn decode(bytes: &[u8]) -> Failure {
    let unknown = || Failure {
        name: "unknown".into(),
        ..Failure::default()
    };
    let Some(variant) = variant(bytes, 0) else {
        return unknown();
    };
    let Some(name) = TRANSACTION.get(variant) else {
        return unknown();
    };
    if variant != INSTRUCTION_ERROR {
        return Failure {
            name: (*name).into(),
            ..Failure::default()
        };
    }
    let instruction = bytes.get(4).copied();
    let inner = self::variant(bytes, 5);
    let inner_name = inner
        .and_then(|inner| INSTRUCTION.get(inner))
        .copied()
        .unwrap_or("unknown");
    let custom = (inner == Some(CUSTOM)).then(|| number(bytes, 9)).flatten();
    Failure {
        name: format!("{name}:{inner_name}"),
        instruction,
        custom,
    }
}

fn variant(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number(bytes, at)?).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_knows() {
        assert_eq!(decode(&[4, 0, 0, 0]).name, "InsufficientFundsForFee");
        let custom = decode(&[8, 0, 0, 0, 3, 25, 0, 0, 0, 0x71, 0x17, 0, 0]);
        assert_eq!(
            custom,
            Failure {
                name: "InstructionError:Custom".into(),
                instruction: Some(3),
                custom: Some(6001)
            }
        );
        assert_eq!(decode(&[200, 0, 0, 0]).name, "unknown");
        assert_eq!(decode(&[8, 0, 0, 0]).name, "InstructionError:unknown");
        assert_eq!(decode(&[]).name, "unknown");
    }
}
