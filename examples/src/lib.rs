//! Empty: the programs under test are the files beside this folder.
