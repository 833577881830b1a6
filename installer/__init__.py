"""The modules of one_click.py. They use the standard library only, run on Python 3.10 to 3.13 and import nothing of the
program.

Four folders: hardware/ (cards, drivers, disk, compilers), llama_cpp/ and torch/ (which build fits, and where it comes
from), environment/ (the Python environment: made, filled, tried, swapped, brought back). Here: the course of an
installation. From the bottom up; a file imports only files in the lines above its own, or to its left:

    errors  layout  console                         how an installation ends early; paths; output and questions
    hardware/disk  hardware/gpu                     free space and rights; the cards
    hardware/nvidia  hardware/cuda                  NVIDIA cards as the driver lists them; which CUDA runs on them
    hardware/vulkan  hardware/machine               whether Vulkan can be compiled; the system
    hardware/processor                              its name, and a fingerprint for what is compiled for it
    llama_cpp/library_pointer                       tells every Python where llama.cpp's libraries are
    preset_answers                                  answers given by environment variables
    state                                           what is remembered of the last installation
    environment/requirements                        requirements.txt, read
    environment/variables                           the environment variables of child processes
    lock                                            one installation at a time
    llama_cpp/llama_builds  torch/torch_builds      the builds of llama.cpp and of torch, best first
    hardware/compiler  hardware/limits              whether anything can be compiled; what this machine rules out
    llama_cpp/archive  llama_cpp/release_table      archives from the web; llama.cpp's release builds
    environment/fingerprints  sizes                 what has changed since last time; how much is fetched
    unexpected_errors                               errors that nobody expected, as sentences
    environment/rollback                            the previous environment, kept and restored
    environment/in_place_update                     an environment changed in place
    environment/swap                                an environment exchanged: whole, or not at all
    preflight                                       all that can be checked before anything is changed
    gpu_choice                                      which card to install for
    server                                          how server.py is started
    project                                         the newest version of the program
    runner                                          commands, hidden or shown
    environment/environment                         the environment: made, deleted, inspected
    environment/packages                            packages, by uv or pip
    environment/smoke_test                          whether it imports and computes
    llama_cpp/wheel  llama_cpp/release              llama.cpp from wheels; from its release builds
    torch/torch_packages  environment/plan          torch and what needs it; what is to be done, and why
    environment/held_environment                    an older environment that stays in use, and why
    environment/previous                            going back to the previous environment, or deleting it
    own_python                                      a command started with another Python than the installation's
    prefetch  early_server  environment/compiling   meanwhile: the demo model; the server; byte code
    environment/additions                           packages added to a finished environment
    llama_cpp/unused_gpu                            a chosen card that llama.cpp does not use: why, and when to retry
    make_lock                                       makes requirements*.txt from the .in files; for developers
    make_portable                                   packs a finished installation into an archive; for developers
"""
