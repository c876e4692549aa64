// The part of the Metal Shading Language that compute kernels use, as C++17 for g++.
#pragma once
#pragma GCC system_header  // the literal suffix h is reserved to the likes of this file
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "runtime.hpp"

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;
typedef half float16_t;
inline half operator""h(long double x) { return half(x); }

// g++ checks indices into private arrays, but lets a reference to the element just past the end
// pass, and with it the methods of an element; so those of our types check the reference.
#define MSL_INLINE inline __attribute__((always_inline))
#define MSL_CHECK(object) \
  if (__builtin_dynamic_object_size(&object, 0) < sizeof(object)) emulator_past_the_end()

struct bfloat {  // the upper half of a float; rounds to nearest even
  uint16_t bits;
  bfloat() = default;
  bfloat(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  }
  MSL_INLINE operator float() const {
    MSL_CHECK(*this);
    const uint32_t u = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &u, 4);
    return x;
  }
  MSL_INLINE bfloat& operator+=(float x) { return *this = bfloat(float(*this) + x); }
  MSL_INLINE bfloat& operator-=(float x) { return *this = bfloat(float(*this) - x); }
  MSL_INLINE bfloat& operator*=(float x) { return *this = bfloat(float(*this) * x); }
  MSL_INLINE bfloat& operator/=(float x) { return *this = bfloat(float(*this) / x); }
};
typedef bfloat bfloat16_t;
template <class T> using if_bfloat = std::enable_if_t<std::is_same_v<T, bfloat>, T>;
template <class T> if_bfloat<T> operator+(T a, T b) { return float(a) + float(b); }
template <class T> if_bfloat<T> operator-(T a, T b) { return float(a) - float(b); }
template <class T> if_bfloat<T> operator*(T a, T b) { return float(a) * float(b); }
template <class T> if_bfloat<T> operator/(T a, T b) { return float(a) / float(b); }

namespace metal {

template <class T> struct identity { typedef T type; };
template <class T> using same = typename identity<T>::type;  // not deduced
template <class T> constexpr bool is_floating =
    std::is_same_v<T, float> || std::is_same_v<T, half> || std::is_same_v<T, bfloat>;
template <class T, class R = T> using if_floating = std::enable_if_t<is_floating<T>, R>;
template <class T, class R = T> using if_integer = std::enable_if_t<std::is_integral_v<T>, R>;

// ------------------------------------------------------------------------------------- vectors

#define MSL_ELEMENT(size, constness)                                                          \
  MSL_INLINE constness T& operator[](int i) constness {                                       \
    MSL_CHECK(*this);                                                                         \
    if (unsigned(i) >= size) emulator_vector_index(i, size);                                  \
    return data[i];                                                                           \
  }
#define MSL_ELEMENTS(size) MSL_ELEMENT(size, ) MSL_ELEMENT(size, const)

template <class T, int N> struct vec;
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
  union { T data[2]; struct { T x, y; }; struct { T r, g; }; };
  vec() = default;
  vec(T a) : data{a, a} {}
  vec(T a, T b) : data{a, b} {}
  template <class U> explicit vec(vec<U, 2> v) : data{T(v.x), T(v.y)} {}
  MSL_ELEMENTS(2)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
  union { T data[3]; struct { T x, y, z; }; struct { T r, g, b; }; };
  vec() = default;
  vec(T a) : data{a, a, a} {}
  vec(T a, T b, T c) : data{a, b, c} {}
  vec(emulator::Uint3 v) : data{v.x, v.y, v.z} {}
  template <class U> explicit vec(vec<U, 3> v) : data{T(v.x), T(v.y), T(v.z)} {}
  MSL_ELEMENTS(3)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
  union { T data[4]; struct { T x, y, z, w; }; struct { T r, g, b, a; }; };
  vec() = default;
  vec(T a) : data{a, a, a, a} {}
  vec(T a, T b, T c, T d) : data{a, b, c, d} {}
  vec(vec<T, 2> lo, vec<T, 2> hi) : data{lo.x, lo.y, hi.x, hi.y} {}
  vec(vec<T, 3> v, T d) : data{v.x, v.y, v.z, d} {}
  template <class U> explicit vec(vec<U, 4> v) : data{T(v.x), T(v.y), T(v.z), T(v.w)} {}
  MSL_ELEMENTS(4)
};

template <class T, int N, class F> vec<T, N> each(F f) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result.data[i] = f(i);
  return result;
}

#define MSL_MIXED(op, how)                                                                    \
  template <class T, int N> how vec<T, N> operator op(vec<T, N> a, same<T> b) {               \
    return a op vec<T, N>(b);                                                                 \
  }                                                                                           \
  template <class T, int N> how vec<T, N> operator op(same<T> a, vec<T, N> b) {               \
    return vec<T, N>(a) op b;                                                                 \
  }                                                                                           \
  template <class T, int N> MSL_INLINE vec<T, N>& operator op##=(vec<T, N>& a, vec<T, N> b) { \
    MSL_CHECK(a);                                                                             \
    return a = a op b;                                                                        \
  }                                                                                           \
  template <class T, int N> MSL_INLINE vec<T, N>& operator op##=(vec<T, N>& a, same<T> b) {   \
    MSL_CHECK(a);                                                                             \
    return a = a op b;                                                                        \
  }
#define MSL_BINARY(op)                                                                        \
  template <class T, int N> vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {                 \
    return each<T, N>([&](int i) { return T(a.data[i] op b.data[i]); });                      \
  }                                                                                           \
  MSL_MIXED(op, )
#define MSL_DIVISION(op)  /* inlined: an error has the line of the kernel */                  \
  template <class T, int N> MSL_INLINE vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {      \
    vec<T, N> result;                                                                         \
    for (int i = 0; i < N; ++i) result.data[i] = T(a.data[i] op b.data[i]);                   \
    return result;                                                                            \
  }                                                                                           \
  MSL_MIXED(op, MSL_INLINE)
MSL_BINARY(+) MSL_BINARY(-) MSL_BINARY(*) MSL_DIVISION(/) MSL_DIVISION(%)
MSL_BINARY(&) MSL_BINARY(|) MSL_BINARY(^) MSL_BINARY(<<) MSL_BINARY(>>)

#define MSL_COMPARE(op)                                                                       \
  template <class T, int N> vec<bool, N> operator op(vec<T, N> a, vec<T, N> b) {              \
    return each<bool, N>([&](int i) { return a.data[i] op b.data[i]; });                      \
  }                                                                                           \
  template <class T, int N> vec<bool, N> operator op(vec<T, N> a, same<T> b) {                \
    return a op vec<T, N>(b);                                                                 \
  }
MSL_COMPARE(==) MSL_COMPARE(!=) MSL_COMPARE(<) MSL_COMPARE(<=) MSL_COMPARE(>) MSL_COMPARE(>=)

template <class T, int N> vec<T, N> operator-(vec<T, N> a) {
  return each<T, N>([&](int i) { return T(-a.data[i]); });
}
template <class T, int N> vec<T, N> operator~(vec<T, N> a) {
  return each<T, N>([&](int i) { return T(~a.data[i]); });
}
template <int N> vec<bool, N> operator!(vec<bool, N> a) {
  return each<bool, N>([&](int i) { return !a.data[i]; });
}
template <int N> bool any(vec<bool, N> a) {
  bool result = false;
  for (int i = 0; i < N; ++i) result |= a.data[i];
  return result;
}
template <int N> bool all(vec<bool, N> a) { return !any(!a); }
template <class T, int N> T dot(vec<T, N> a, vec<T, N> b) {
  T sum = T(a.data[0] * b.data[0]);
  for (int i = 1; i < N; ++i) sum = T(sum + T(a.data[i] * b.data[i]));
  return sum;
}

#define MSL_VECTORS(T, name)                                                                  \
  typedef vec<T, 2> name##2;                                                                  \
  typedef vec<T, 3> name##3;                                                                  \
  typedef vec<T, 4> name##4;
MSL_VECTORS(bool, bool) MSL_VECTORS(int8_t, char) MSL_VECTORS(uchar, uchar)
MSL_VECTORS(short, short) MSL_VECTORS(ushort, ushort) MSL_VECTORS(int, int) MSL_VECTORS(uint, uint)
MSL_VECTORS(long, long) MSL_VECTORS(ulong, ulong) MSL_VECTORS(half, half)
MSL_VECTORS(float, float) MSL_VECTORS(bfloat, bfloat)

template <class T, int N> struct packed_vec {  // aligned as its element
  T data[N];
  packed_vec() = default;
  packed_vec(vec<T, N> v) { for (int i = 0; i < N; ++i) data[i] = v.data[i]; }
  operator vec<T, N>() const { return each<T, N>([&](int i) { return data[i]; }); }
  MSL_ELEMENTS(N)
};
typedef packed_vec<float, 2> packed_float2;
typedef packed_vec<float, 3> packed_float3;
typedef packed_vec<float, 4> packed_float4;
typedef packed_vec<half, 4> packed_half4;
typedef packed_vec<uint, 4> packed_uint4;
typedef packed_vec<uchar, 4> packed_uchar4;
typedef packed_vec<int8_t, 4> packed_char4;

// ----------------------------------------------------------------------------------- functions

#define MSL_FLOAT_FUNCTION(name, expression)                                                  \
  template <class T> if_floating<T> name(T value) {                                           \
    emulator_count(emulator::kMath);                                                          \
    const float x = float(value);                                                             \
    return T(expression);                                                                     \
  }                                                                                           \
  template <class T, int N> vec<T, N> name(vec<T, N> v) {                                     \
    return each<T, N>([&](int i) { return name(v.data[i]); });                                \
  }
MSL_FLOAT_FUNCTION(exp, std::exp(x)) MSL_FLOAT_FUNCTION(exp2, std::exp2(x))
MSL_FLOAT_FUNCTION(exp10, std::pow(10.0f, x)) MSL_FLOAT_FUNCTION(log, std::log(x))
MSL_FLOAT_FUNCTION(log2, std::log2(x)) MSL_FLOAT_FUNCTION(log10, std::log10(x))
MSL_FLOAT_FUNCTION(sqrt, std::sqrt(x)) MSL_FLOAT_FUNCTION(rsqrt, 1.0f / std::sqrt(x))
MSL_FLOAT_FUNCTION(sin, std::sin(x)) MSL_FLOAT_FUNCTION(cos, std::cos(x))
MSL_FLOAT_FUNCTION(tan, std::tan(x)) MSL_FLOAT_FUNCTION(asin, std::asin(x))
MSL_FLOAT_FUNCTION(acos, std::acos(x)) MSL_FLOAT_FUNCTION(atan, std::atan(x))
MSL_FLOAT_FUNCTION(sinh, std::sinh(x)) MSL_FLOAT_FUNCTION(cosh, std::cosh(x))
MSL_FLOAT_FUNCTION(tanh, std::tanh(x)) MSL_FLOAT_FUNCTION(floor, std::floor(x))
MSL_FLOAT_FUNCTION(ceil, std::ceil(x)) MSL_FLOAT_FUNCTION(round, std::round(x))
MSL_FLOAT_FUNCTION(rint, std::nearbyint(x)) MSL_FLOAT_FUNCTION(trunc, std::trunc(x))
MSL_FLOAT_FUNCTION(fract, x - std::floor(x)) MSL_FLOAT_FUNCTION(fabs, std::fabs(x))
MSL_FLOAT_FUNCTION(log1p, std::log1p(x)) MSL_FLOAT_FUNCTION(expm1, std::expm1(x))  // MLX's own
MSL_FLOAT_FUNCTION(erf, std::erf(x))
MSL_FLOAT_FUNCTION(sign, x != x ? 0.0f : float((x > 0) - (x < 0)))

template <class T> if_floating<T> abs(T x) { return fabs(x); }
template <class T> if_integer<T> abs(T x) { return T(x < T(0) ? -x : x); }
template <class T> if_floating<T> fma(T a, T b, T c) {
  return T(std::fma(float(a), float(b), float(c)));
}
template <class T> if_floating<T> pow(T a, T b) {
  emulator_count(emulator::kMath);
  return T(std::pow(float(a), float(b)));
}
template <class T> if_floating<T> powr(T a, T b) { return pow(a, b); }
template <class T> if_floating<T> atan2(T a, T b) {
  emulator_count(emulator::kMath);
  return T(std::atan2(float(a), float(b)));
}
template <class T> if_floating<T> fmod(T a, T b) { return T(std::fmod(float(a), float(b))); }
template <class T> if_floating<T> ldexp(T a, int n) { return T(std::ldexp(float(a), n)); }
template <class T> if_floating<T, bool> isnan(T x) { return float(x) != float(x); }
template <class T> if_floating<T, bool> isinf(T x) { return std::isinf(float(x)); }
template <class T> if_floating<T, bool> isfinite(T x) { return std::isfinite(float(x)); }
template <class T> if_floating<T, bool> signbit(T x) { return std::signbit(float(x)); }

// Of a NaN and a number Metal returns the number.
template <class T> std::enable_if_t<std::is_arithmetic_v<T> || is_floating<T>, T> min(T a, T b) {
  if constexpr (is_floating<T>) return T(std::fmin(float(a), float(b)));
  else return b < a ? b : a;
}
template <class T> std::enable_if_t<std::is_arithmetic_v<T> || is_floating<T>, T> max(T a, T b) {
  if constexpr (is_floating<T>) return T(std::fmax(float(a), float(b)));
  else return a < b ? b : a;
}
template <class T, int N> vec<T, N> min(vec<T, N> a, vec<T, N> b) {
  return each<T, N>([&](int i) { return min(a.data[i], b.data[i]); });
}
template <class T, int N> vec<T, N> max(vec<T, N> a, vec<T, N> b) {
  return each<T, N>([&](int i) { return max(a.data[i], b.data[i]); });
}
template <class T> if_floating<T> fmin(T a, T b) { return min(a, b); }
template <class T> if_floating<T> fmax(T a, T b) { return max(a, b); }
template <class T> T clamp(T x, same<T> low, same<T> high) { return min(max(x, low), high); }
template <class T> if_floating<T> saturate(T x) { return clamp(x, T(0.0f), T(1.0f)); }
template <class T> T mix(T a, T b, same<T> t) { return T(a + T(T(b - a) * t)); }
template <class T> if_floating<T> step(T edge, T x) { return T(x < edge ? 0.0f : 1.0f); }
template <class T> T select(T a, T b, bool c) { return c ? b : a; }
template <class T, int N> vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  return each<T, N>([&](int i) { return c.data[i] ? b.data[i] : a.data[i]; });
}

template <class T> auto as_unsigned(T x) { return std::make_unsigned_t<T>(x); }
template <class T> if_integer<T> popcount(T x) {
  emulator_count(emulator::kPopcount);
  return T(__builtin_popcountll(as_unsigned(x)));
}
template <class T> if_integer<T> ctz(T x) {
  emulator_count(emulator::kCountZeros);
  return x ? T(__builtin_ctzll(as_unsigned(x))) : T(8 * sizeof(T));
}
template <class T> if_integer<T> clz(T x) {
  emulator_count(emulator::kCountZeros);
  return x ? T(__builtin_clzll(as_unsigned(x)) - (64 - 8 * sizeof(T))) : T(8 * sizeof(T));
}
template <class T> if_integer<T> reverse_bits(T x) {
  auto in = as_unsigned(x), out = decltype(in)(0);
  for (unsigned i = 0; i < 8 * sizeof(T); ++i, in >>= 1) out = (out << 1) | (in & 1);
  return T(out);
}
template <class T> if_integer<T> rotate(T x, T n) {
  const unsigned bits = 8 * sizeof(T), by = unsigned(n) % bits;
  return by ? T((as_unsigned(x) << by) | (as_unsigned(x) >> (bits - by))) : x;
}
template <class T> if_integer<T> extract_bits(T x, uint offset, uint bits) {
  if (bits == 0) return T(0);
  return T(T(as_unsigned(x) << (8 * sizeof(T) - offset - bits)) >> (8 * sizeof(T) - bits));
}
template <class T> if_integer<T> mulhi(T a, T b) {
  typedef std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128> wide;
  return T((wide(a) * wide(b)) >> (8 * sizeof(T)));
}
template <class T, int N> vec<T, N> popcount(vec<T, N> v) {
  return each<T, N>([&](int i) { return popcount(v.data[i]); });
}
template <class T, int N> vec<T, N> ctz(vec<T, N> v) {
  return each<T, N>([&](int i) { return ctz(v.data[i]); });
}
template <class T, int N> vec<T, N> clz(vec<T, N> v) {
  return each<T, N>([&](int i) { return clz(v.data[i]); });
}

#define MSL_PRECISION                                                                         \
  using metal::exp; using metal::exp2; using metal::log; using metal::log2; using metal::sqrt; \
  using metal::rsqrt; using metal::sin; using metal::cos; using metal::tan; using metal::tanh; \
  using metal::pow; using metal::powr; using metal::sinh; using metal::cosh; using metal::fabs;
namespace precise { MSL_PRECISION }
namespace fast { MSL_PRECISION }

template <class T> struct numeric_limits : std::numeric_limits<T> {};
#define MSL_LIMITS(T, largest, smallest, eps, digits_)                                        \
  template <> struct numeric_limits<T> {                                                      \
    static T max() { return T(largest); }                                                     \
    static T lowest() { return T(-largest); }                                                 \
    static T min() { return T(smallest); }                                                    \
    static T epsilon() { return T(eps); }                                                     \
    static T infinity() { return T(__builtin_inff()); }                                       \
    static T quiet_NaN() { return T(__builtin_nanf("")); }                                    \
    static constexpr int digits = digits_;                                                    \
  };
MSL_LIMITS(half, 65504.0f, 0x1p-14f, 0x1p-10f, 11)
MSL_LIMITS(bfloat, 0x1.fep127f, 0x1p-126f, 0x1p-7f, 8)

template <class T> struct element { typedef T type; };
template <class T, size_t N> struct element<T[N]> : element<T> {};
template <class T, int N> struct element<vec<T, N>> : element<T> {};

}  // namespace metal

#include "msl_simd.hpp"

template <class T> struct metal::element<metal::atomic<T>> : metal::element<T> {};

template <class To, class From> To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs types of one size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// ------------------------------------------------------------ what MLX puts before every kernel

template <class Index> Index elem_to_loc(Index element, const int* shape, const int64_t* strides, int ndim) {
  Index location = 0;
  for (int i = ndim - 1; i >= 0 && element > 0; --i) {
    location += Index(element % shape[i]) * Index(strides[i]);
    element /= shape[i];
  }
  return location;
}
template <class Index = int64_t> Index elem_to_loc(
    metal::uint3 element, const int* shape, const int64_t* strides, int ndim) {
  Index location = element.x * Index(strides[ndim - 1]) + element.y * Index(strides[ndim - 2]);
  for (int d = ndim - 3; d >= 0; --d) {
    location += (element.z % shape[d]) * Index(strides[d]);
    element.z /= shape[d];
  }
  return location;
}
template <class A, class B> MSL_INLINE auto ceildiv(A a, B b) { return (a + b - 1) / b; }

template <class T> T& emulator_shared(int declaration, int line) {
  typedef typename metal::element<T>::type element;
  return *static_cast<T*>(
      emulator_threadgroup(declaration, sizeof(T), metal::is_floating<element>, line));
}

#define M_PI_F 3.14159265358979323846f
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.69314718055994530942f
#define M_SQRT2_F 1.41421356237309504880f
#define METAL_FUNC MSL_INLINE
#define MLX_MTL_CONST static constexpr const
#define MLX_MTL_PRAGMA_UNROLL
#define MLX_MTL_LOOP_UNROLL
#define device
#define thread
#define constant const
using namespace metal;
#pragma GCC poison double
