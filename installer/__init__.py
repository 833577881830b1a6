"""What one_click.py is made of: one thing a file. Standard library only, Python 3.10 to 3.13, nothing of the project.

From the bottom up; a file knows only those in the lines above its own, or to its left:

    errors  layout  console  disk  gpu        a sentence that ends it; where things lie; questions; space; the cards
    nvidia  cuda  vulkan  machine             NVIDIA's cards; which CUDA runs on them; what Vulkan lacks; this machine
    processor  pointer                        its name, and a mark for what is compiled for it; llama.cpp's libraries
    answers                                   what is answered beforehand, by environment variables
    state  requirements  variables  lock      what is remembered; what is wanted; what children inherit; one at a time
    llama_builds  torch_builds  compiler      the ways to llama.cpp and to torch; whether anything can be compiled here
    limits                                    what this machine rules out, said before anything is fetched
    archive  release_table                    libraries from the web; llama.cpp's own builds
    fingerprints  sizes  mishaps              stamps of what is wanted; how much comes; what nobody foresaw
    keeping  part  exchange                   the environment before this one; one changed in place; whole or not at all
    preflight  choice  server  project        what can be known before; which card; what comes after; the newest version
    runner  environment  packages  trial      commands; the Python that is filled; what fills it; whether it works
    llama_wheel  llama_release                llama.cpp by its packages; by its own builds as well
    torch_packages  work                      torch; what differs from the last time, and so must be done
    holding  earlier                          an older environment that stays in use; going back to one, and its end
    ahead                                     the demo model, fetched while all is tried
    wanted                                    a card that was chosen and is not used: why, and when to try again
    make_lock                                 the requirements files, made of what is asked for; for developers
"""
