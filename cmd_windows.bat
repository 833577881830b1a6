@echo off
rem Opens a shell in the web UI's environment, with its python and pip.
setlocal EnableExtensions DisableDelayedExpansion
cd /d "%~dp0"
if not exist "installer_files\env\Scripts\activate.bat" goto missing
rem CUDA's libraries in NVIDIA's packages, as in the start script.
for /d %%d in ("%cd%\installer_files\env\Lib\site-packages\nvidia\*") do call :libraries "%%d"
for %%v in (PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE) do set "%%v="
set "PYTHONNOUSERSITE=1"
echo This is the environment of the web UI. "python -m pip list" lists its packages; "exit" leaves it.
cmd /k ""%cd%\installer_files\env\Scripts\activate.bat""
exit /b
:libraries
if exist "%~1\bin\x86_64" set "PATH=%~1\bin\x86_64;%PATH%"
if exist "%~1\bin" set "PATH=%~1\bin;%PATH%"
exit /b
:missing
echo The environment does not exist yet. Run start_windows.bat first.
if not defined WEBUI_NO_PAUSE pause
exit /b 1
