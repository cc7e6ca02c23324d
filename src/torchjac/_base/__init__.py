"""What every room stands on: errors, the words of options, memory, random numbers, files, processes."""
