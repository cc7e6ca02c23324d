"""The foundation of all other modules: errors, words of options, memory, random numbers, files, processes."""
