/* two libraries after each other at one address, and the first again */
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv)
{
    int sum = 0;
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW);
        if (!library)
            return 1;
        int (*answer)(int) = (int (*)(int))dlsym(library, "answer");
        for (int n = 0; n < 10; n++)
            sum += answer(n);
        dlclose(library);
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%d %d\n", sum, time(NULL) != 0);
    return 0;
}
