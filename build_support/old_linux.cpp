// What the headers of a newer C++ library leave to that library, for machines whose own is older (GLIBCXX before 3.4.26,
// glibc before 2.32): made here once, for the operators alone. See old_linux.py.
#include <new>
#include <sstream>

template class std::basic_stringbuf<char>;
template class std::basic_ostringstream<char>;
template class std::basic_stringstream<char>;

namespace std {
void __throw_bad_array_new_length() { throw std::bad_array_new_length(); }
}  // namespace std

// Read by shared_ptr, which may count without atomics where there is but one thread: 0 says that there may be several.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = 0;
