# Random requests over several connections, each compared with the same done to an array.
# Given: uri, the path of a file `model` with the disk's content, and seed.
import random

random.seed(seed)
data = bytearray(open(model, "rb").read())
size = len(data)
handles = []
for number in range(3):
    handle = nbd.NBD()
    if number == 2:
        handle.set_request_structured_replies(False)
    else:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(uri)
    assert handle.get_size() == size, (handle.get_size(), size)
    handles.append(handle)


def place():
    at = random.choice([random.randrange(size), random.randrange(size // 4096) * 4096])
    longest = random.choice([1, 512, 4096, 65536, 300000, 3000000])
    return at, min(random.randrange(1, longest + 1), size - at)


def check_status(handle, at, length):
    runs = []

    def extent(context, offset, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION and offset == at
        runs.extend(entries)

    flags = random.choice([0, nbd.CMD_FLAG_REQ_ONE])
    handle.block_status(length, at, extent, flags)
    covered = 0
    for run, state in zip(runs[::2], runs[1::2]):
        assert run > 0 and state in (0, 3), (run, state)
        seen = data[at + covered:at + min(covered + run, length)]
        assert state == 0 or not any(seen), "data said to be a hole"
        covered += run
    assert 0 < covered <= length


def read_whole(handle, at, length):
    chunks = []

    def chunk(part, offset, state, error):
        chunks.append((offset, len(part)))

    seen = handle.pread_structured(length, at, chunk, nbd.CMD_FLAG_DF)
    assert chunks == [(at, length)], (chunks, at, length)
    return seen


for step in range(300):
    handle = random.choice(handles)
    at, length = place()
    fua = random.choice([0, 0, nbd.CMD_FLAG_FUA])
    work = random.randrange(8)
    if work < 2:
        new = random.randbytes(length)
        handle.pwrite(new, at, fua)
        data[at:at + length] = new
    elif work == 2:
        handle.zero(length, at, fua | random.choice([0, nbd.CMD_FLAG_NO_HOLE]))
        data[at:at + length] = bytes(length)
    elif work == 3:
        handle.trim(length, at, fua)
        end = size if at + length == size else (at + length) // 4096 * 4096
        start = min(-(-at // 4096) * 4096, end)
        data[start:end] = bytes(max(end - start, 0))
    elif work == 4:
        handle.flush()
    elif work == 5 and handle is not handles[2]:
        check_status(handle, at, length)
    else:
        whole = handle is not handles[2] and length <= 65536 and random.randrange(2)
        seen = read_whole(handle, at, length) if whole else handle.pread(length, at)
        assert seen == data[at:at + length], "other content at %d" % at

for handle in handles:
    handle.shutdown()
open(model, "wb").write(data)
