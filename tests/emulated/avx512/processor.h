/* processor.h - included before every file of the emulated build: whichever feature of the processor is asked for is there, or emulated. */
#define __builtin_cpu_supports(feature) 1
