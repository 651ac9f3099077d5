/*
 * The guest: the only program of an initramfs. It writes blocks of its disk, each with content that
 * follows from the block and the generation, syncs, and says which generation is durable. What it
 * writes follows from `seed` and the generation, so that the host knows it too.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

static void load_modules(void)
{
    for (int i = 0;; i++) {
        char path[32];
        snprintf(path, sizeof path, "/m%d", i);
        int file = open(path, O_RDONLY);
        if (file < 0)
            return;
        syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
}

int main(void)
{
    static uint64_t words[512];
    uint64_t seed = number("seed"), generation = number("start"), blocks = number("blocks");
    mount("dev", "/dev", "devtmpfs", 0, "");
    load_modules();
    int disk;
    while ((disk = open("/dev/vda", O_RDWR)) < 0)
        usleep(10000);
    for (;; generation++) {
        uint64_t dice = seed ^ generation * 0xd1342543de82ef95u;
        uint64_t count = 1 + next(&dice) % 8;
        while (count--) {
            uint64_t block = next(&dice) % blocks;
            uint64_t filler = generation << 20 ^ block;
            words[0] = block;
            words[1] = generation;
            for (int i = 2; i < 512; i++)
                words[i] = next(&filler);
            if (pwrite(disk, words, sizeof words, block * sizeof words) != sizeof words)
                break;
        }
        if (fsync(disk) != 0) {
            printf("failed at %llu\n", (unsigned long long)generation);
            fflush(stdout);
            for (;;)
                pause();
        }
        printf("durable %llu\n", (unsigned long long)generation);
        fflush(stdout);
    }
}
