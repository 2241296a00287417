"""
The host's own software and sessions.
"""

from __future__ import annotations

from wlcg_isolate._families.row import Family

SOFTWARE: tuple[Family, ...] = (
    Family("path", "drop", "PATH", "names the host's programs; the image has its own", "apptainer create.go"),
    Family("home", "drop", "HOME", "is set for each payload", "apptainer --home"),
    Family(
        "working-directory",
        "drop",
        "PWD OLDPWD INIT_CWD",
        "names a directory of the host; some runtimes take it for the payload's",
        "LbPlatformUtils; DIRAC 8269",
    ),
    Family("shell-own", "drop", "SHLVL _ SHELL BASH HIST*", "is the host shell's own", "bash(1)"),
    Family(
        "python",
        "drop",
        "PYTHONHOME PYTHONPATH PYTHONUSERBASE PYTHONSTARTUP PYTHONEXECUTABLE PYTHONPLATLIBDIR PYTHONPYCACHEPREFIX "
        "PYTHONBREAKPOINT PYTHONWARNINGS PYTHONOPTIMIZE VIRTUAL_ENV* CONDA_* _CE_CONDA _CE_M PYENV_* PIP_* PIPENV_* "
        "POETRY_* UV_* __PYVENV_LAUNCHER__",
        "leads the image's Python to modules of the host's",
        "glideinwms clear list; mriqc 775; blackfish 366",
    ),
    Family(
        "perl",
        "drop",
        "PERL5LIB PERLLIB PERL5OPT PERL5DB PERL_MB_OPT PERL_MM_OPT PERL_LOCAL_LIB_ROOT",
        "leads the image's Perl to modules of the host's",
        "singularity 3594, 3058",
    ),
    Family(
        "r",
        "drop",
        "R_LIBS* R_HOME R_PROFILE* R_ENVIRON*",
        "leads the image's R to packages of the host's",
        "SubPhaser 25",
    ),
    Family(
        "other-languages",
        "drop",
        "RUBYLIB RUBYOPT GEM_* BUNDLE_* NODE_PATH NODE_OPTIONS NPM_CONFIG_* npm_config_* GOPATH GOROOT GOFLAGS "
        "CARGO_* RUSTUP_* CLASSPATH JAVA_HOME JRE_HOME JDK_HOME TCLLIBPATH TCL_LIBRARY TK_LIBRARY LUA_PATH* "
        "LUA_CPATH* JULIA_DEPOT_PATH",
        "leads an interpreter of the image to files of the host's",
        "manuals of each; NGS580-nf 43",
    ),
    Family(
        "java-options",
        "drop",
        "_JAVA_OPTIONS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS",
        "gives flags of the host's Java to another one",
        "OpenJDK launcher",
    ),
    Family(
        "allocator",
        "drop",
        "MALLOC_* JEMALLOC_CONF TCMALLOC_*",
        "tunes the host's memory allocator",
        "mallopt(3); jemalloc(3)",
    ),
    Family(
        "modules",
        "drop",
        "MODULEPATH* MODULESHOME MODULE_* MODULES_* LOADEDMODULES* _LMFILES_* LMOD_* __LMOD_* ENABLE_LMOD "
        "_ModuleTable* __MODULES_* MODULERCFILE BASH_MODULES* SPACK_* EASYBUILD_* EBROOT* EBVERSION* EBDEVEL* "
        "EBEXTSLIST* module switchml",
        "tells of a module system that the image does not have",
        "singularity 177, 6296; osg-flock denylist; EasyBuild",
    ),
    Family(
        "toolchain",
        "drop",
        "CC CXX FC F77 F90 CFLAGS CXXFLAGS CPPFLAGS LDFLAGS FFLAGS FCFLAGS CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH "
        "LIBRARY_PATH PKG_CONFIG_* CMAKE_* ACLOCAL_PATH MAKEFLAGS MAKELEVEL MFLAGS COMPILER_PATH GCC_* MKLROOT "
        "MKL_ROOT INTEL_* ROCM_* CUDA_HOME CUDA_PATH CUDA_ROOT ROOTSYS CLING_* ROOT_INCLUDE_PATH",
        "names the host's compilers and libraries",
        "gcc(1), ld(1)",
    ),
    Family(
        "host-software",
        "drop",
        "XALT_* OPENSSL_CONF OPENSSL_MODULES MANPATH INFOPATH TERMINFO* MAGIC LESSOPEN LESSCLOSE LESS PAGER EDITOR "
        "VISUAL BROWSER LS_COLORS LS_OPTIONS DIRCOLORS MAIL MAILPATH HOSTNAME HOSTTYPE MACHTYPE OSTYPE KDEDIRS "
        "QTDIR QTINC QTLIB GTK_* QT_* DEBUGINFOD_*",
        "names programs or files of the host",
        "apptainer 2537; singularity 5488",
    ),
    Family(
        "session",
        "drop",
        "XDG_* DBUS_* SSH_* SESSION_MANAGER GNOME_* DISPLAY XAUTHORITY WAYLAND_* DESKTOP_SESSION WINDOWID TMUX* STY "
        "VSCODE_* INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_* MANAGERPID SYSTEMD_* SELINUX_* SUDO_* "
        "KUBERNETES_* *_SERVICE_HOST *_SERVICE_PORT* *_PORT_*_TCP*",
        "belongs to a session or service of the host",
        "singularity 5068, sylabs 114; systemd.exec(5); Kubernetes services",
    ),
    Family(
        "middleware",
        "drop",
        "GLOBUS_LOCATION GLOBUS_PATH GLOBUS_GRAM_* GLOBUS_GASS_* GT_* GLITE_* EMI_* LCG_* GFAL_* MYPROXY_* EDG_* "
        "ARC_* DIRAC DIRACOS DIRACOS_* RUCIO_HOME PANDA_HOME",
        "names middleware of the host, which shadows the image's",
        "gwms 341; DIRAC 4764, 4773, 7135",
    ),
    Family(
        "set-up-done",
        "drop",
        "LBENV_SOURCED ATLAS_LOCAL_ROOT_BASE ALRB_* AtlasSetup* CMSSW_* CMS_PATH SCRAM_ARCH O2_ROOT ALIBUILD_*",
        "says that software is set up, which keeps the image's from being",
        "LHCb lessons; cmssw-env; ATLASLocalRootBase",
    ),
    Family(
        "batch-settings",
        "drop",
        "_CONDOR_* _condor_*",
        "sets the HTCondor that reads it; the site's is not the payload's",
        "HTCondor manual, configuration by environment; gwms 57",
    ),
)
